#include "snapshot.h"

#include "process.h"
#include "wire.h"

// Connections that are copied at once.
#define SNAPSHOT_BATCH 32u

// The clocks of a connection and of a process differ by less.
#define SNAPSHOT_CLOCK_TOLERANCE PLATFORM_TICKS_PER_SECOND

// A process that started after its connection is another one, to which Windows gave the id again.
static UINT64 SnapshotProcessStart(const CONNECTION *connection)
{
    UINT64 start = ProcessStartTime(connection->State.ProcessId);

    return start <= connection->Life.StartTime + SNAPSHOT_CLOCK_TOLERANCE ? start : 0;
}

static UINT8 SnapshotFlags(const CONNECTION *connection)
{
    return (UINT8)((connection->State.Reported ? CONNECTION_ENTRY_REPORTED : 0) |
                   (connection->State.Ended ? CONNECTION_ENTRY_ENDED : 0) |
                   (connection->Life.Waiting ? CONNECTION_ENTRY_WAITING : 0));
}

static UINT8 *SnapshotPutEntry(UINT8 *wire, const CONNECTION *connection)
{
    UINT8 type = connection->Key.IpVersion == 4 ? InfoConnectionEndV4 : InfoConnectionEndV6;
    const CONNECTION_LIFE *life = &connection->Life;
    CONNECTION_ENTRY_LIFE_WIRE entry;

    entry.Id = life->Waiting ? life->Question : 0;
    entry.ProcessStart = SnapshotProcessStart(connection);
    entry.StartTime = life->StartTime;
    entry.IdleMs = life->IdleSeconds * 1000ULL;
    entry.TransmittedBytes = life->TransmittedBytes;
    entry.ReceivedBytes = life->ReceivedBytes;
    entry.Verdict = connection->State.Verdict;
    entry.Flags = SnapshotFlags(connection);
    wire = WirePut(wire, &type, sizeof(type));
    wire = WirePutConnection(wire, &connection->Key, connection->State.ProcessId, connection->State.Direction);
    return WirePut(wire, &entry, sizeof(entry));
}

static NTSTATUS SnapshotReadRequest(const UINT8 *request, SIZE_T length, CONNECTION_WALK *walk)
{
    GET_CONNECTIONS_WIRE wire;

    RtlZeroMemory(&wire, sizeof(wire));
    RtlCopyMemory(&wire, request, length < sizeof(wire) ? length : sizeof(wire));
    if (length < sizeof(wire.StructSize) || wire.StructSize < sizeof(wire.StructSize) || wire.StructSize > length)
    {
        return STATUS_INVALID_PARAMETER;
    }
    if (wire.StructSize < sizeof(wire))
    {
        wire.Cursor = 0;
    }
    walk->Shard = (UINT32)(wire.Cursor >> 32);
    walk->Bucket = (UINT32)wire.Cursor;
    return STATUS_SUCCESS;
}

static UINT64 SnapshotCursor(const CONNECTION_WALK *walk)
{
    return ConnectionWalkIsOver(walk) ? 0 : (UINT64)walk->Shard << 32 | walk->Bucket;
}

// Encodes entries from `wire` to `end`, and returns the place behind them. Moves `walk`.
static UINT8 *SnapshotPutEntries(CONNECTION_TABLE *table, CONNECTION_WALK *walk, CONNECTION *batch, UINT8 *wire,
                                 const UINT8 *end, UINT32 *count)
{
    UINT32 copied;
    UINT32 i;

    do
    {
        SIZE_T room = (SIZE_T)(end - wire) / WIRE_CONNECTION_ENTRY_V6;

        copied = ConnectionTableWalk(table, walk, batch, room < SNAPSHOT_BATCH ? (UINT32)room : SNAPSHOT_BATCH);
        for (i = 0; i < copied; i++)
        {
            wire = SnapshotPutEntry(wire, &batch[i]);
        }
        *count += copied;
    } while (copied != 0);
    return wire;
}

_Use_decl_annotations_
NTSTATUS SnapshotConnections(CONNECTION_TABLE *table, const UINT8 *request, SIZE_T requestLength, UINT8 *reply,
                             SIZE_T replyLength, SIZE_T *written)
{
    CONNECTION_WALK walk;
    CONNECTIONS_WIRE header;
    CONNECTION *batch;
    UINT8 *end;
    NTSTATUS status = SnapshotReadRequest(request, requestLength, &walk);

    *written = 0;
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    if (replyLength < sizeof(header))
    {
        return STATUS_BUFFER_TOO_SMALL;
    }
    batch = (CONNECTION *)MemoryAllocateUninitialized(table->Memory, SNAPSHOT_BATCH * sizeof(*batch));
    if (batch == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    header.Count = 0;
    end = SnapshotPutEntries(table, &walk, batch, reply + sizeof(header), reply + replyLength, &header.Count);
    header.NextCursor = SnapshotCursor(&walk);
    MemoryFree(table->Memory, batch);
    if (header.Count == 0 && header.NextCursor != 0)
    {
        return STATUS_BUFFER_TOO_SMALL;
    }
    RtlCopyMemory(reply, &header, sizeof(header));
    *written = (SIZE_T)(end - reply);
    return STATUS_SUCCESS;
}
