// The broadcast addresses of this machine's IPv4 subnets.
//
// A packet to one of them is sent to many, which its bits do not show. ALE_AUTH_CONNECT says it of what it authorizes.
// The packet layer asks here about what was not authorized.
//
// The system's table of addresses is read at PASSIVE_LEVEL, in a round of deferred work after each change.
// Rounds may overlap: the one that began last leaves its result. A lock guards the result for a few reads.
// The table shows the default compartment.

#pragma once

#include "deferred.h"
#include "log.h"
#include "memory.h"
#include "rw_lock.h"

EXTERN_C_START

// Subnets beyond this number are not known.
#define SUBNETS_MAX 1024u

typedef struct _SUBNETS
{
    MEMORY *Memory;
    LOG *Log;
    DEFERRED *Deferred;
    HANDLE Notification; ///< or NULL
    volatile LONG64 LastRound;
    RW_LOCK Lock; ///< guards the members below
    LONG64 Round; ///< that read the addresses
    UINT32 Count;
    UINT32 *Broadcasts; ///< host order, ascending; NULL: none
} SUBNETS;

/// Knows no subnets. Never fails.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID SubnetsInitialize(_Out_ SUBNETS *subnets, _Inout_ MEMORY *memory, _Inout_ DEFERRED *deferred, _Inout_ LOG *log);

/// Reads the addresses, and has them read after each change from now on. Without notifications they are read once.
_IRQL_requires_(PASSIVE_LEVEL)
VOID SubnetsStart(_Inout_ SUBNETS *subnets);

/// Ends the notifications. Waits for one that runs.
_IRQL_requires_(PASSIVE_LEVEL)
VOID SubnetsStop(_Inout_ SUBNETS *subnets);

/// Frees everything. Nobody else may be using the subnets.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID SubnetsUninitialize(_Inout_ SUBNETS *subnets);

/// Reads the addresses. After a failure the ones that were read before stay.
_IRQL_requires_(PASSIVE_LEVEL)
VOID SubnetsRead(_Inout_ SUBNETS *subnets);

/// TRUE if an IPv4 address, in network order, is the broadcast address of a subnet of this machine.
/// The time grows with the logarithm of the number of subnets.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN SubnetsHaveBroadcast(_Inout_ SUBNETS *subnets, _In_reads_(4) const UINT8 *address);

EXTERN_C_END
