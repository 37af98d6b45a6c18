// The injection tracker remembers the packets that the driver injected last and another product may send back.
//
// A copy of a packet does not show that the packet was decided before.
// So two products that hold packets and inject copies would hold each other's copies for ever.
// The tracker breaks the circle: it remembers a keyed hash of each injected packet.
// A remembered packet is permitted once when it comes back.
//
// Nothing is remembered until another product is seen to inject.

#pragma once

#include "clock.h"
#include "recent_set.h"
#include "siphash.h"

EXTERN_C_START

// The tracker holds 15,872 packets in 256 KiB. When half full, a set overflows once in millions of packets.
#define INJECTION_TRACKER_SETS          (512u >> PLATFORM_TABLE_SHRINK)
#define INJECTION_TRACKER_PAIRS_PER_SET 31u
#define INJECTION_TRACKER_TIME_MS       10000u

typedef struct _INJECTION_TRACKER
{
    const CLOCK *Clock;
    SIPHASH_KEY HashKey;
    RECENT_SET Packets; ///< hash of the bytes → ClockNow at which the packet is forgotten
} INJECTION_TRACKER;

/// Makes a tracker that remembers nothing.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectionTrackerInitialize(_Out_ INJECTION_TRACKER *tracker, _Inout_ MEMORY *memory, _In_ const CLOCK *clock);

/// Frees everything. Nobody else may be using the tracker.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectionTrackerUninitialize(_Inout_ INJECTION_TRACKER *tracker);

/// Starts to remember packets, once another product injects. If the pool has no memory, the next call tries again.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectionTrackerEnable(_Inout_ INJECTION_TRACKER *tracker);

/// Remembers a packet that is about to be injected.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectionTrackerAdd(_Inout_ INJECTION_TRACKER *tracker, _In_reads_bytes_(length) const UINT8 *packet,
                         _In_ UINT32 length);

/// TRUE if the packet was injected within the last INJECTION_TRACKER_TIME_MS. Forgets the packet.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN InjectionTrackerTake(_Inout_ INJECTION_TRACKER *tracker, _In_reads_bytes_(length) const UINT8 *packet,
                             _In_ UINT32 length);

/// Packets that are remembered now. Walks the tracker.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 InjectionTrackerCount(_Inout_ INJECTION_TRACKER *tracker);

/// Pool bytes of the tracker now. Any IRQL.
UINT64 InjectionTrackerBytes(_In_ const INJECTION_TRACKER *tracker);

EXTERN_C_END
