// The order in which records leave, and who gives way when there is no room: lanes of owners.
//
// The owner of an outbound connection is the image that it belongs to, or its process where no image is known.
// The owner of an inbound connection is the network of its remote end, at one local port. It is never the program.
// Each owner has a lane. Its records wait there in order, and leave in turn with those of other owners.
// Replies, log lines and losses have a lane of their own. This lane, outbound and inbound take turns.
// Outbound, images take turns. Inbound, local ports take turns, and at each port the remote networks.
//
// The records of a connection stay in order: while one waits, the next ones join its lane.
// A unit is one or several records that leave one right after the other.
// A barrier is a unit that leaves only once every unit that came before it has left.
// For a client that knows nothing of turns, all records wait in the lane of replies, so they leave in order.
//
// A lane is charged for what its questions hold: packets, bytes, and the bytes of their records that wait.
// Anybody may have room that is left. When there is none, the side that holds more gives up a question.
// It is the newest question of the lane that holds most there (ranking.h). A newcomer counts as its lane's newest.
// On a tie another lane gives way, because the newcomer may be the first question of an owner among many.
//
// All memory is fixed. A group is an image or a local port, and has the first lane for its records.
// Inbound, a remote network has a lane of its own in its port's group, while there are enough lanes.
// Where groups or lanes run short, new owners share them by a hash. An owner keeps what it has until it is empty.
//
// Everything is O(1). The caller serializes all calls, and frees what leaves.

#pragma once

#include "memory.h"
#include "protocol.h"
#include "ranking.h"

EXTERN_C_START

/// Outbound and inbound have the values of DIRECTION.
typedef enum _LANE_SIDE
{
    LaneOutbound = DirectionOutbound,
    LaneInbound = DirectionInbound,
    LaneReplies ///< replies, log lines and losses
} LANE_SIDE;

#define LANE_DIRECTIONS 2
#define LANE_SIDES      3

/// What a question is charged for.
typedef enum _LANE_SHARE
{
    LaneHeldPackets,
    LaneHeldBytes,
    LaneQueuedBytes,
    LaneShareCount
} LANE_SHARE;

// Groups of each side, and the names that new groups share once most of them are taken.
#define LANES_GROUP_COUNT  (256u >> PLATFORM_TABLE_SHRINK)
#define LANES_SHARED_NAMES (LANES_GROUP_COUNT / 16u + 1u)

// Lanes of remote networks. Once half of them are taken, the new networks of a port share these.
#define LANES_NETWORK_COUNT        (512u >> PLATFORM_TABLE_SHRINK)
#define LANES_NETWORK_SHARED_NAMES 32u

// Lists of the records that wait, by a hash of their connection.
#define LANES_CONNECTION_LISTS (65536u >> PLATFORM_TABLE_SHRINK)

/// Whose a record is. The hashes are keyed, so nobody can choose owners that collide.
typedef struct _LANE_OWNER
{
    UINT8 Side;        ///< LaneOutbound or LaneInbound
    UINT64 Group;      ///< hash of the image or process, or of the local port
    UINT64 Network;    ///< hash of the local port and the remote network; outbound 0
    UINT64 Connection; ///< hash of the connection, not 0
} LANE_OWNER;

/// An entry of a pool of groups or lanes.
typedef struct _LANE_ENTRY
{
    LIST_ENTRY Link; ///< in the list of its name, or of the free ones
    UINT64 Name;
} LANE_ENTRY;

typedef struct _LANE_GROUP LANE_GROUP;

typedef struct _LANE
{
    LANE_ENTRY Entry;
    LANE_GROUP *Group;    ///< NULL: the lane of replies
    UINT32 Uses;          ///< records, charges and unreported refusals
    LIST_ENTRY Turn;      ///< among the lanes of the group that have records
    LIST_ENTRY Records;   ///< LANE_RECORDs by Link, oldest first
    LIST_ENTRY Questions; ///< LANE_QUESTIONs by Link whose records were queued, newest last
    RANKED Held[LaneShareCount];
    LIST_ENTRY Refusing; ///< among the lanes that have refusals to report or reported some a moment ago
    UINT64 Refused;      ///< questions that were refused since the last report
    UINT64 RefusedProcess;
    UINT64 NextReport; ///< time from which refusals are reported again
    BOOLEAN IsRefusing;
} LANE;

struct _LANE_GROUP
{
    LANE_ENTRY Entry;
    UINT8 Side;
    UINT32 LaneCount; ///< lanes of remote networks
    LIST_ENTRY Turn;  ///< among the groups of the side that have records
    LIST_ENTRY Lanes; ///< LANEs by Turn
    LANE Own;
};

/// Entries that are found by name, and are given back when they are empty.
typedef struct _LANE_POOL
{
    LIST_ENTRY Free;
    LIST_ENTRY *Lists; ///< by name
    UINT32 Count;      ///< of the entries and of the lists
    UINT32 Used;
    UINT32 SharedFrom; ///< number of entries in use from which new ones get shared names
} LANE_POOL;

typedef struct _LANE_DIRECTION
{
    LANE_POOL Groups;
    LIST_ENTRY Turns; ///< LANE_GROUPs by Turn
    UINT64 Held[LaneShareCount];
    RANKING Rankings[LaneShareCount];
} LANE_DIRECTION;

typedef struct _LANE_TABLE LANE_TABLE;

typedef struct _LANES
{
    MEMORY *Memory;
    LANE_TABLE *Table; ///< all groups, lanes and lists
    LANE_DIRECTION *Directions;
    LANE_POOL Networks;
    LIST_ENTRY *Connections; ///< LANE_RECORDs by ConnectionLink, newest first
    LANE Replies;
    LIST_ENTRY Arrivals; ///< LANE_RECORDs by Arrival, oldest first
    LIST_ENTRY Refusing; ///< LANEs by Refusing, in the order of NextReport
    UINT8 NextSide;
    BOOLEAN InTurn; ///< FALSE: the lane of replies takes all records
    UINT64 MaxHeld[LaneShareCount];
    UINT64 QueuedBytes;
    UINT64 QueuedRecords;
} LANES;

typedef struct _LANE_QUESTION LANE_QUESTION;

/// A unit that waits. Its bytes follow the structure. The memory is the caller's.
typedef struct _LANE_RECORD
{
    LIST_ENTRY Link;
    LIST_ENTRY ConnectionLink;
    LIST_ENTRY Arrival; ///< among all that wait
    LANE *Lane;
    UINT64 Connection;       ///< 0: none
    LANE_QUESTION *Question; ///< that it asks, while that waits; or NULL
    UINT32 Length;
    UINT32 Records;    ///< whose last byte was not delivered
    BOOLEAN Asks;      ///< it has a question
    BOOLEAN Ends;      ///< it is the end of its connection
    BOOLEAN Barrier;   ///< of the lane of replies: see above
    UINT32 Optional;   ///< bytes of a first record that is left out if it was delivered before; 0: none
    UINT64 ProcessKey; ///< of the first record, which is a ProcessInfo if Optional is not 0
    UINT64 ProcessValue;
    UINT32 From; ///< for the delivery: the bytes that go into the read that is served now
    UINT32 To;
    struct _LANE_RECORD *Next; ///< of units that were taken out of their lane together
    UINT32 SplitLeft;          ///< for the delivery: bytes of the record at To, if its start was delivered
} LANE_RECORD;

/// A question that may be given up. All zero: it is charged to nobody.
struct _LANE_QUESTION
{
    LIST_ENTRY Link;
    UINT64 Id;
    UINT64 ProcessId;
    UINT64 Bytes; ///< that are held for it
    LANE *Lane;   ///< NULL: it is charged to nobody
    LANE_RECORD *Record;
    UINT64 Queued; ///< bytes of Record that its lane is charged for
    BOOLEAN IsListed;
    BOOLEAN IsFirst;       ///< without it the client knows nothing of the connection, so it gets no end either
    BOOLEAN Withdrawn;     ///< it was given up before a client read of it
    UINT64 Displaced;      ///< after STATUS_RETRY: the id of the question that was given up for it
    LANE_RECORD *Unwanted; ///< after LanesWithdraw: units for the caller to free, by Next
};

/// Makes empty lanes, which let nobody hold anything. STATUS_INSUFFICIENT_RESOURCES: nothing is left to undo.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS LanesInitialize(_Out_ LANES *lanes, _Inout_ MEMORY *memory);

/// Frees the lanes, in which nothing waits.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID LanesUninitialize(_Inout_ LANES *lanes);

/// Charges a question to the lane of its owner. Any IRQL.
/// STATUS_RETRY: another question was given up for it. The caller withdraws and resolves that before it tries again.
/// STATUS_QUOTA_EXCEEDED: the owner holds most, so the question is refused.
/// STATUS_BUFFER_OVERFLOW: there is no room, and nobody holds anything.
_Must_inspect_result_
NTSTATUS LanesAdmit(_Inout_ LANES *lanes, _In_ const LANE_OWNER *owner, _Inout_ LANE_QUESTION *question);

/// Makes room for `bytes` of a record of a question that is charged. Fails as LanesAdmit does. Any IRQL.
_Must_inspect_result_
NTSTATUS LanesMakeRoom(_Inout_ LANES *lanes, _Inout_ LANE_QUESTION *question, _In_ UINT64 bytes);

/// Takes the record of a question that was given up out of its lane, if it still waits there.
/// The end of a connection of which the client then knows nothing goes with it.
/// The caller lets nobody report that connection meanwhile. TRUE: the client knows nothing of the connection. Any IRQL.
_Must_inspect_result_
BOOLEAN LanesWithdraw(_Inout_ LANES *lanes, _Inout_ LANE_QUESTION *question);

/// Takes the charges of a question back. Its record waits on. Any IRQL.
VOID LanesRelease(_Inout_ LANES *lanes, _Inout_ LANE_QUESTION *question);

/// Appends a unit to the lane of its owner. `owner` NULL: to the lane of replies.
/// A question that is charged to nobody is left out. The owner stays charged for one that joins another lane. Any IRQL.
VOID LanesAppend(_Inout_ LANES *lanes, _In_opt_ const LANE_OWNER *owner, _Inout_ LANE_RECORD *record,
                 _Inout_opt_ LANE_QUESTION *question);

/// Returns the unit whose turn it is. NULL: none waits. Any IRQL.
_Ret_maybenull_
LANE_RECORD *LanesNext(_In_ const LANES *lanes);

/// Takes the unit that LanesNext returned. The turn is the next owner's. Any IRQL.
VOID LanesTake(_Inout_ LANES *lanes, _Inout_ LANE_RECORD *record);

/// Takes the refusals of one owner that are to be reported at `now`. FALSE: there are none now.
/// An owner's refusals are reported at once, and then at most once in `period`.
/// `processId` is 0 if several processes were refused. Any IRQL.
_Must_inspect_result_
BOOLEAN LanesTakeRefused(_Inout_ LANES *lanes, _In_ UINT64 now, _In_ UINT64 period, _Out_ UINT64 *count,
                         _Out_ UINT64 *processId);

/// Forgets all refusals. Any IRQL.
VOID LanesForgetRefused(_Inout_ LANES *lanes);

/// Returns whether LanesTakeRefused is to be called again. Any IRQL.
BOOLEAN LanesHaveRefused(_In_ const LANES *lanes);

/// The bytes of a unit.
FORCEINLINE UINT8 *LaneRecordBytes(_In_ LANE_RECORD *record)
{
    return (UINT8 *)(record + 1);
}

EXTERN_C_END
