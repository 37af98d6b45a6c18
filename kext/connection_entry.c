#include "connection_entry.h"

// A unit of the time of a start is 2^10 times 100 ns.
#define CONNECTION_START_SHIFT 10u

// An entry keeps the other bits of that time.
#define CONNECTION_START_LOST_BITS 24u

static UINT64 ConnectionEntryStartUnits(VOID)
{
    LARGE_INTEGER now;

    KeQuerySystemTime(&now);
    return (UINT64)now.QuadPart >> CONNECTION_START_SHIFT;
}

_Use_decl_annotations_
VOID ConnectionEntrySetStart(CONNECTION_COLD *cold)
{
    UINT64 units = ConnectionEntryStartUnits();

    cold->StartHigh = (UINT8)(units >> 32);
    cold->StartLow = (UINT32)units;
}

// Completes the high bits of a start, which was at most 1.7 years ago. The system's clock may have been set back since.
static UINT64 ConnectionEntryStartTime(const CONNECTION_COLD *cold)
{
    UINT64 now = ConnectionEntryStartUnits();
    UINT64 start = (UINT64)cold->StartHigh << 32 | cold->StartLow;
    LONG64 age = (LONG64)((now - start) << CONNECTION_START_LOST_BITS) >> CONNECTION_START_LOST_BITS;

    return (now - (UINT64)age) << CONNECTION_START_SHIFT;
}

static VOID ConnectionEntryCopyLife(const CONNECTION_TABLE *table, const CONNECTION_CELL *cell, CONNECTION_LIFE *life)
{
    const CONNECTION_COLD *cold = ConnectionEntryCold(table, cell);

    life->Question = ConnectionEntryQuestion(cold);
    life->StartTime = ConnectionEntryStartTime(cold);
    life->TransmittedBytes = (UINT64)ReadNoFence64(&cold->TransmittedBytes);
    life->ReceivedBytes = (UINT64)ReadNoFence64(&cold->ReceivedBytes);
    life->Handle = cold->Handle;
    life->IdleSeconds = ConnectionEntryAge(cell, ClockSeconds(table->Clock));
    life->Waiting = ConnectionEntryIsWaiting(cell);
    life->EndReason = EndReasonClosed;
}

_Use_decl_annotations_
VOID ConnectionEntryCopy(const CONNECTION_TABLE *table, const SHARD_MAP *map, const CONNECTION_CELL *cell,
                         CONNECTION *connection)
{
    ConnectionKeyUnpack(ConnectionEntryWords(map, cell), map->KeyWords, &connection->Key);
    connection->State = ConnectionEntryState(cell);
    ConnectionEntryCopyLife(table, cell, &connection->Life);
}
