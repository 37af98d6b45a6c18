// The fragment table: what is decided on each IP datagram that comes in fragments.
//
// Only the first fragment has the ports, so the others follow the decision on it. The first one is decided on like a
// packet. A fragment that comes before that decision waits as a copy.
//
// Fragments of a datagram may not overlap (RFC 5722, RFC 8200 section 4.5): receivers differ in which one they believe.
// An overlap refuses the whole datagram until its time is over. An exact duplicate is dropped by itself. A datagram is
// forgotten when all of it has gone by or its time is over.
//
// One spin lock guards everything; it is held for one hash chain and one datagram's list of ranges. Packets are dropped
// and memory is allocated and freed with the lock released. A pending decision refers to its datagram by an id that is
// never used again, so a decision that comes too late finds nothing.

#pragma once

#include "inject.h"
#include "ip_header.h"
#include "siphash.h"
#include "verdict.h"

EXTERN_C_START

// A fragment waits so long for the first one, and a decision is remembered so long.
#define FRAGMENT_EARLY_MS    1000u
#define FRAGMENT_DECISION_MS 30000u

// The most copies that wait in one datagram, and the most fragments that it may have.
#define FRAGMENT_MAX_WAITING 64u
#define FRAGMENT_MAX_PIECES  128u

#define FRAGMENT_MAX_DATAGRAMS     16384u
#define FRAGMENT_MAX_WAITING_BYTES (16u * 1024u * 1024u)

typedef struct _FRAGMENT_TABLE
{
    MEMORY *Memory;
    STATISTICS *Statistics;
    SIPHASH_KEY HashKey;
    KSPIN_LOCK Lock;
    LIST_ENTRY *Buckets;
    LIST_ENTRY Early;   ///< datagrams whose first fragment has not come, oldest first
    LIST_ENTRY Asked;   ///< datagrams whose first fragment came and is undecided, oldest first
    LIST_ENTRY Decided; ///< decided datagrams, oldest decision first
    UINT64 LastId;
    volatile LONG64 Count;
    volatile LONG64 WaitingBytes;
} FRAGMENT_TABLE;

/// Makes an empty table. STATUS_INSUFFICIENT_RESOURCES leaves nothing behind.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS FragmentTableInitialize(_Out_ FRAGMENT_TABLE *table, _Inout_ MEMORY *memory, _Inout_ STATISTICS *statistics);

/// Frees the table, which must be empty.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID FragmentTableUninitialize(_Inout_ FRAGMENT_TABLE *table);

/// Decides on a fragment. `id` gets its datagram's, or 0: there is none.
/// DecisionPermit, DecisionBlock, DecisionAbsorb, DecisionRedirect to `target`: as the first one; a refusal is counted.
/// DecisionAsk: it is the first one. Decide on it, then call FragmentTableDecide unless the client decides.
/// DecisionHeld: it waits for the first one. Exactly one FragmentTableWait follows.
/// DecisionFail: its datagram cannot be remembered; `failure` says why.
/// A full table forgets its oldest decision before it fails.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
DECISION FragmentTableEnter(_Inout_ FRAGMENT_TABLE *table, _In_ const IP_HEADER *header, _In_ UINT8 direction,
                            _In_ COMPARTMENT_ID compartment, _Out_ UINT64 *id, _Inout_ CONNECTION_KEY *target,
                            _Inout_ NTSTATUS *failure);

/// Lets the copy of a fragment wait. DecisionHeld: the table owns the copy now. Else the copy was dropped, and the
/// decision is on the fragment itself, with the meaning that FragmentTableEnter gives it. A NULL copy fails.
_IRQL_requires_max_(DISPATCH_LEVEL)
DECISION FragmentTableWait(_Inout_ FRAGMENT_TABLE *table, _In_ UINT64 id, _In_opt_ INJECT_PACKET *packet,
                           _Inout_ CONNECTION_KEY *target, _Inout_ NTSTATUS *failure);

/// Sets the decision on a datagram once: DecisionPermit, DecisionRedirect to `target`, DecisionBlock or DecisionAbsorb.
/// `permitted` gets the copies that waited and now go on, redirected where that was decided, for the caller to inject.
/// Copies that do not go on are dropped; both are counted. FALSE: an overlap was found since, and the first fragment
/// does not go on either.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN FragmentTableDecide(_Inout_ FRAGMENT_TABLE *table, _In_ UINT64 id, _In_ DECISION decision,
                            _In_opt_ const CONNECTION_KEY *target, _Outptr_result_maybenull_ INJECT_PACKET **permitted);

/// Forgets every datagram whose time is over at `now` (KeQueryInterruptTime); MAXLONG64: all. With `permit` what waited
/// is returned, else dropped; both are counted.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
INJECT_PACKET *FragmentTableForget(_Inout_ FRAGMENT_TABLE *table, _In_ UINT64 now, _In_ BOOLEAN permit);

/// The datagrams in the table, and the pool bytes of all. Any IRQL.
UINT64 FragmentTableCount(_In_ const FRAGMENT_TABLE *table);
UINT64 FragmentTableBytes(_In_ const FRAGMENT_TABLE *table);

EXTERN_C_END
