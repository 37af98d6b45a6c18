// The fragment table: what is known of each IP datagram that comes in pieces, so that all of them go the way of the
// first one, which alone has the ports.
//
// A datagram's first fragment is decided on like a packet; those after it follow its decision, those that come before
// it, or while the client is asked about it, wait as copies. No two fragments of a datagram may overlap (RFC 5722, RFC
// 8200 section 4.5), because then nobody can tell which of them the receiver believes; only an exact duplicate, which
// networks make, is dropped by itself. A datagram is forgotten when all of it has gone by, and in time; one that was
// refused for an overlap only in time, so that nothing of it goes on meanwhile.
//
// Everything is under one spin lock, held for one hash chain and one datagram's list of ranges. Packets are dropped and
// memory is allocated and freed with it released. A decision that is on its way refers to its
// datagram by an id, which is never given twice: one that comes too late finds nothing.

#pragma once

#include "inject.h"
#include "ip_header.h"
#include "siphash.h"

EXTERN_C_START

// How long a fragment waits for the first one, and how long a decision is remembered.
#define FRAGMENT_EARLY_MS    1000u
#define FRAGMENT_DECISION_MS 30000u

// Copies that wait in one datagram, and fragments that it may have in all.
#define FRAGMENT_MAX_WAITING 64u
#define FRAGMENT_MAX_PIECES  128u

#define FRAGMENT_MAX_DATAGRAMS     16384u
#define FRAGMENT_MAX_WAITING_BYTES (16u * 1024u * 1024u)

typedef enum _FRAGMENT_ACTION
{
    FragmentPermit,
    FragmentBlock,
    FragmentAbsorb,
    FragmentRedirect, ///< to another connection: its addresses
    FragmentDecide,   ///< the first one: decide on it, then FragmentTableDecide unless that is left to a verdict
    FragmentWait,     ///< it waits for a decision
    FragmentOverLimit,
    FragmentNoMemory
} FRAGMENT_ACTION;

typedef struct _FRAGMENT_TABLE
{
    MEMORY *Memory;
    STATISTICS *Statistics;
    SIPHASH_KEY HashKey;
    KSPIN_LOCK Lock;
    LIST_ENTRY *Buckets;
    LIST_ENTRY Early;   ///< whose first fragment has not come, oldest first
    LIST_ENTRY Asked;   ///< whose first fragment was not decided on yet, by the time when it came
    LIST_ENTRY Decided; ///< by the time of the decision
    UINT64 LastId;
    volatile LONG64 Count;
    volatile LONG64 WaitingBytes;
} FRAGMENT_TABLE;

/// Makes an empty table. STATUS_INSUFFICIENT_RESOURCES, after which FragmentTableUninitialize is allowed and nothing
/// else.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS FragmentTableInitialize(_Out_ FRAGMENT_TABLE *table, _Inout_ MEMORY *memory, _Inout_ STATISTICS *statistics);

/// Frees the table, which must be empty.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID FragmentTableUninitialize(_Inout_ FRAGMENT_TABLE *table);

/// What is to be done with a fragment; one that is blocked is counted. `id` gets its datagram's, or 0: there is none.
/// `target` is written for FragmentRedirect. After FragmentWait comes exactly one FragmentTableWait. A full table
/// forgets its oldest decision; only where there is none a datagram cannot be remembered. Its first fragment is decided
/// on all the same; for the others it is FragmentOverLimit or FragmentNoMemory then.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
FRAGMENT_ACTION FragmentTableEnter(_Inout_ FRAGMENT_TABLE *table, _In_ const IP_HEADER *header, _In_ UINT8 direction,
                                   _In_ COMPARTMENT_ID compartment, _Out_ UINT64 *id, _Inout_ CONNECTION_KEY *target);

/// Lets the copy of a fragment wait: FragmentWait, and the copy is the table's. Else it was dropped, and the answer
/// goes for the fragment itself: the decision may have come meanwhile. NULL: there was no memory for a copy.
_IRQL_requires_max_(DISPATCH_LEVEL)
FRAGMENT_ACTION FragmentTableWait(_Inout_ FRAGMENT_TABLE *table, _In_ UINT64 id, _In_opt_ INJECT_PACKET *packet,
                                  _Inout_ CONNECTION_KEY *target);

/// Sets the decision on a datagram (FragmentPermit, FragmentRedirect to `target`, FragmentBlock or FragmentAbsorb),
/// once. `permitted` gets those that waited, redirected if they are to be, counted as permitted and now the caller's to
/// inject; those that are not permitted are dropped and counted. FALSE: an overlap was found since, and the first one
/// may not go on either.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN FragmentTableDecide(_Inout_ FRAGMENT_TABLE *table, _In_ UINT64 id, _In_ FRAGMENT_ACTION decision,
                            _In_opt_ const CONNECTION_KEY *target, _Outptr_result_maybenull_ INJECT_PACKET **permitted);

/// Forgets every datagram whose time is over at `now` (KeQueryInterruptTime), and drops what waits in it. None of that
/// went on any more: a datagram whose time is over is not found.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID FragmentTableExpire(_Inout_ FRAGMENT_TABLE *table, _In_ UINT64 now);

/// Forgets everything. With `permit` what waited is returned, else dropped, as FragmentTableDecide does.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
INJECT_PACKET *FragmentTableResolve(_Inout_ FRAGMENT_TABLE *table, _In_ BOOLEAN permit);

/// Datagrams in the table now, and the pool bytes of all. Any IRQL.
UINT64 FragmentTableCount(_In_ const FRAGMENT_TABLE *table);
UINT64 FragmentTableBytes(_In_ const FRAGMENT_TABLE *table);

EXTERN_C_END
