// The fragment table: the decision on each IP datagram that comes in fragments.
//
// Only the first fragment has the ports, so the other fragments follow the decision on the first one.
// The first fragment is decided on like a packet.
// A fragment that comes before that decision waits as a copy.
//
// Fragments of a datagram must not overlap (RFC 5722, RFC 8200 section 4.5).
// Overlaps are refused because receivers differ in which of the overlapping fragments they use.
// An overlap refuses the whole datagram until its time is over. An exact duplicate is dropped by itself.
// A datagram is forgotten when all its fragments have come and are decided, or when its time is over.
//
// A fragment goes on only if the table has its datagram, and the first fragment was permitted.
// So what the table forgets or cannot take is refused, under either fail policy.
// A full table gives up the oldest datagram whose first fragment has not come, so lone fragments push out each other.
// Without such a datagram it gives up the oldest one of the undecided or of the decided, whichever are more.
//
// One spin lock guards the whole table. A hold of the lock covers one hash chain, one datagram's list of ranges and the
// few datagrams that are given up.
// Packets are dropped, and memory is allocated and freed, with the lock released.
// A pending decision refers to its datagram by an id that is never reused, so a late decision finds nothing.

#pragma once

#include "inject.h"
#include "ip_header.h"
#include "siphash.h"
#include "verdict.h"

EXTERN_C_START

// How long a fragment waits for the first one, and how long a decision is remembered.
#define FRAGMENT_EARLY_MS    1000u
#define FRAGMENT_DECISION_MS 30000u

// How much longer it may take until a datagram is forgotten.
#define FRAGMENT_TOLERANCE_MS 100u

// The most copies that wait in one datagram, and the most fragments that one datagram may have.
#define FRAGMENT_MAX_WAITING 64u
#define FRAGMENT_MAX_PIECES  128u

#define FRAGMENT_MAX_DATAGRAMS     (16384u >> PLATFORM_TABLE_SHRINK)
#define FRAGMENT_MAX_WAITING_BYTES (16u * 1024u * 1024u)

// The most datagrams that are given up for the bytes of one fragment.
#define FRAGMENT_MAX_GIVEN_UP 64u

typedef enum _FRAGMENT_STAGE
{
    FragmentEarly,   ///< the first fragment has not come
    FragmentAsked,   ///< the first fragment came and is undecided
    FragmentDecided, ///< the first fragment is decided
    FragmentStageCount
} FRAGMENT_STAGE;

/// The datagrams of one stage.
typedef struct _FRAGMENT_STAGE_LISTS
{
    LIST_ENTRY ByAge;   ///< all of them, in the order of their expiry
    LIST_ENTRY Waiting; ///< those in which copies wait, in the order of the first copies
    UINT32 Count;
} FRAGMENT_STAGE_LISTS;

/// What the table says of a fragment beside the decision.
typedef struct _FRAGMENT_ANSWER
{
    UINT64 Datagram;       ///< id; 0: the table has none for the fragment
    CONNECTION_KEY Target; ///< for DecisionRedirect
    UINT32 Lost;           ///< datagrams that were given up, and the fragment if there was no room for it
    UINT8 LossReason;      ///< LOSS_REASON of Lost
} FRAGMENT_ANSWER;

typedef struct _FRAGMENT_TABLE
{
    MEMORY *Memory;
    const CLOCK *Clock;
    STATISTICS *Statistics;
    SIPHASH_KEY HashKey;
    KSPIN_LOCK Lock;
    LIST_ENTRY *Buckets;
    FRAGMENT_STAGE_LISTS Stages[FragmentStageCount];
    UINT64 LastId;
    volatile LONG64 Count;
    volatile LONG64 WaitingBytes;
} FRAGMENT_TABLE;

/// Makes an empty table. STATUS_INSUFFICIENT_RESOURCES: there is no memory, and nothing is left behind.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS
FragmentTableInitialize(_Out_ FRAGMENT_TABLE *table, _Inout_ MEMORY *memory, _In_ const CLOCK *clock,
                        _Inout_ STATISTICS *statistics);

/// Frees the table, which must be empty.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID FragmentTableUninitialize(_Inout_ FRAGMENT_TABLE *table);

/// Decides on a fragment.
/// DecisionPermit, DecisionBlock, DecisionAbsorb, DecisionRedirect: the decision on the first fragment.
/// DecisionBlock: also for a fragment that finds no room. A refused fragment is counted.
/// DecisionAsk: this is the first fragment. Decide on it, then call FragmentTableDecide unless the client decides.
/// DecisionHeld: this fragment waits for the first one. The caller calls FragmentTableWait exactly once.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
DECISION FragmentTableEnter(_Inout_ FRAGMENT_TABLE *table, _In_ const IP_HEADER *header, _In_ UINT8 direction,
                            _In_ IF_INDEX interfaceIndex, _In_ COMPARTMENT_ID compartment,
                            _Out_ FRAGMENT_ANSWER *answer);

/// Lets the copy of a fragment of answer->Datagram wait. DecisionHeld: the table owns the copy now.
/// Any other decision is on the fragment itself, as FragmentTableEnter describes it, and the copy was dropped.
/// A NULL copy is refused for want of memory.
_IRQL_requires_max_(DISPATCH_LEVEL)
DECISION FragmentTableWait(_Inout_ FRAGMENT_TABLE *table, _In_opt_ INJECT_PACKET *packet,
                           _Inout_ FRAGMENT_ANSWER *answer);

/// Sets the decision on a datagram once: DecisionPermit, DecisionRedirect to `target`, DecisionBlock or DecisionAbsorb.
/// `permitted` gets the waiting copies that now go on, for the caller to inject. They are redirected if so decided.
/// Waiting copies that do not go on are dropped. Permitted and dropped copies are counted.
/// FALSE: an overlap was found since, so the first fragment does not go on either.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN FragmentTableDecide(_Inout_ FRAGMENT_TABLE *table, _In_ UINT64 id, _In_ DECISION decision,
                            _In_opt_ const CONNECTION_KEY *target, _Outptr_result_maybenull_ INJECT_PACKET **permitted);

/// Forgets every datagram whose time is over at `now` (ClockNow). CLOCK_NEVER as `now` forgets all.
/// The copies that waited are dropped and counted.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID FragmentTableForget(_Inout_ FRAGMENT_TABLE *table, _In_ UINT64 now);

/// Returns when the time of the next datagram is over (ClockNow). CLOCK_NEVER: the table is empty.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 FragmentTableNextExpiry(_Inout_ FRAGMENT_TABLE *table);

/// Returns the number of datagrams in the table. Any IRQL.
UINT64 FragmentTableCount(_In_ const FRAGMENT_TABLE *table);
/// Returns the pool bytes of all datagrams in the table. Any IRQL.
UINT64 FragmentTableBytes(_In_ const FRAGMENT_TABLE *table);

EXTERN_C_END
