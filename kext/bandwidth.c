#include "bandwidth.h"

#include "wire.h"

// Entries of a record on the stack, for when the pool has no memory for a larger record.
#define BANDWIDTH_SMALL_RECORD_ENTRIES 8u

// The end of a cell, from the last word of the key on.
typedef struct _BANDWIDTH_COUNTERS
{
    UINT64 LastKeyWord;
    UINT64 TransmittedBytes;
    UINT64 ReceivedBytes;
} BANDWIDTH_COUNTERS;

// The protocol and IP version of a record.
typedef struct _BANDWIDTH_FAMILY
{
    UINT8 Protocol;
    UINT8 IpVersion;
} BANDWIDTH_FAMILY;

// The families, in the order of a report.
static const BANDWIDTH_FAMILY BandwidthFamilies[] = {
    {PROTOCOL_TCP, 4},
    {PROTOCOL_TCP, 6},
    {PROTOCOL_UDP, 4},
    {PROTOCOL_UDP, 6},
};

_Use_decl_annotations_
NTSTATUS BandwidthInitialize(BANDWIDTH *bandwidth, MEMORY *memory, LOG *log, UINT64 maxEntries)
{
    bandwidth->Memory = memory;
    bandwidth->Log = log;
    bandwidth->Totals = 0;
    return ConnectionMapInitialize(&bandwidth->Connections, memory, maxEntries);
}

_Use_decl_annotations_
VOID BandwidthUninitialize(BANDWIDTH *bandwidth)
{
    ConnectionMapUninitialize(&bandwidth->Connections);
}

// ---- Updates

// The caller holds the shard's lock.
static NTSTATUS BandwidthTryAdd(BANDWIDTH *bandwidth, CONNECTION_PLACE *place, UINT64 transmittedBytes,
                                UINT64 receivedBytes, SHARD_GROWTH *growth)
{
    BANDWIDTH_COUNTERS *counters = (BANDWIDTH_COUNTERS *)ConnectionMapFind(&bandwidth->Connections, place);
    NTSTATUS status;
    UINT64 *cell;

    if (counters != NULL)
    {
        counters->TransmittedBytes += transmittedBytes;
        counters->ReceivedBytes += receivedBytes;
        return STATUS_SUCCESS;
    }
    status = ShardMapStartCell(place->Map, &place->In, growth, &cell);
    if (NT_SUCCESS(status))
    {
        counters = (BANDWIDTH_COUNTERS *)(cell + place->Map->KeyWords - 1);
        counters->TransmittedBytes = transmittedBytes;
        counters->ReceivedBytes = receivedBytes;
    }
    return status;
}

static NTSTATUS BandwidthAddAt(BANDWIDTH *bandwidth, CONNECTION_PLACE *place, UINT64 transmittedBytes,
                               UINT64 receivedBytes)
{
    SHARD_GROWTH growth = {NULL, 0, FALSE, FALSE, FALSE};

    for (;;)
    {
        KIRQL irql = RwLockAcquireExclusive(&place->In.Shard->Lock);
        NTSTATUS status = BandwidthTryAdd(bandwidth, place, transmittedBytes, receivedBytes, &growth);

        RwLockReleaseExclusive(&place->In.Shard->Lock, irql);
        if (status != STATUS_RETRY)
        {
            MemoryFree(bandwidth->Memory, growth.Array);
            return status;
        }
        ShardMapBringGrowth(place->Map, &growth);
    }
}

_Use_decl_annotations_
NTSTATUS BandwidthAdd(BANDWIDTH *bandwidth, const CONNECTION_KEY *key, UINT64 transmittedBytes, UINT64 receivedBytes)
{
    CONNECTION_PLACE place;

    if (!ConnectionKeyHasPorts(key) || (key->IpVersion != 4 && key->IpVersion != 6))
    {
        return STATUS_INVALID_PARAMETER;
    }
    ConnectionMapLocate(&bandwidth->Connections, key, &place);
    return BandwidthAddAt(bandwidth, &place, transmittedBytes, receivedBytes);
}

_Use_decl_annotations_
VOID BandwidthKeepTotals(BANDWIDTH *bandwidth, CONNECTION_TABLE *connections)
{
    InterlockedExchange64(&bandwidth->Totals, (LONG64)(ULONG_PTR)connections);
}

_Use_decl_annotations_
VOID BandwidthCount(BANDWIDTH *bandwidth, const CONNECTION_KEY *key, BOOLEAN inbound, UINT64 bytes)
{
    CONNECTION_TABLE *totals = (CONNECTION_TABLE *)(ULONG_PTR)ReadNoFence64(&bandwidth->Totals);
    NTSTATUS status = BandwidthAdd(bandwidth, key, inbound ? 0 : bytes, inbound ? bytes : 0);

    if (!NT_SUCCESS(status) && LogMayRepeat(bandwidth->Log, LogLimitBandwidth))
    {
        LogWarning(bandwidth->Log, "A connection's bytes could not be counted: status 0x%08x", (unsigned)status);
    }
    if (totals != NULL)
    {
        ConnectionTableAddBytes(totals, key, inbound, bytes);
    }
}

// ---- Reports

// The records of one family on their way into the queue.
typedef struct _BANDWIDTH_REPORT
{
    BANDWIDTH *Bandwidth;
    EVENTS *Events;
    BANDWIDTH_FAMILY Family;
    SHARD_MAP *Map;
    SHARD_CURSOR Next; // the first cell that is in no record yet
    UINT8 *Entries;    // the entries of one record
    UINT32 Capacity;
} BANDWIDTH_REPORT;

// The next cell of the family, or NULL.
static UINT64 *BandwidthNext(const BANDWIDTH_REPORT *report, SHARD_CURSOR *cursor)
{
    UINT64 *cell = ShardMapNextTaken(report->Map, cursor);
    CONNECTION_KEY key;

    while (cell != NULL)
    {
        ConnectionKeyUnpack(cell, report->Map->KeyWords, &key);
        if (key.Protocol == report->Family.Protocol)
        {
            break;
        }
        cell = ShardMapNextTaken(report->Map, cursor);
    }
    return cell;
}

static UINT32 BandwidthCapacity(const BANDWIDTH_REPORT *report)
{
    SHARD_CURSOR cursor = report->Next;
    UINT32 count = 0;

    while (count < PROTOCOL_MAX_BANDWIDTH_ENTRIES && BandwidthNext(report, &cursor) != NULL)
    {
        count++;
    }
    return count;
}

static UINT8 *BandwidthPutEntry(const BANDWIDTH_REPORT *report, const UINT64 *cell, UINT8 *wire)
{
    const BANDWIDTH_COUNTERS *counters = (const BANDWIDTH_COUNTERS *)(cell + report->Map->KeyWords - 1);
    CONNECTION_KEY key;

    ConnectionKeyUnpack(cell, report->Map->KeyWords, &key);
    wire = WirePutEndpoints(wire, &key);
    wire = WirePut(wire, &counters->TransmittedBytes, sizeof(counters->TransmittedBytes));
    return WirePut(wire, &counters->ReceivedBytes, sizeof(counters->ReceivedBytes));
}

// Encodes and queues the next record. FALSE: the family has no more entries.
static BOOLEAN BandwidthPushRecord(BANDWIDTH_REPORT *report, NTSTATUS *status)
{
    // The table keeps what is not queued.
    static const IO_QUEUE_LOSS uncounted = {LossUncounted, 0};
    UINT8 *end = report->Entries;
    BANDWIDTH_STATS_WIRE wire;
    IO_QUEUE_PIECE pieces[2];
    UINT64 *cell;

    wire.Header.Type = report->Family.IpVersion == 4 ? InfoBandwidthStatsV4 : InfoBandwidthStatsV6;
    wire.Protocol = report->Family.Protocol;
    for (wire.Count = 0; wire.Count < report->Capacity; wire.Count++)
    {
        cell = BandwidthNext(report, &report->Next);
        if (cell == NULL)
        {
            break;
        }
        end = BandwidthPutEntry(report, cell, end);
    }
    if (wire.Count == 0)
    {
        return FALSE;
    }
    pieces[0].Data = &wire;
    pieces[0].Length = sizeof(wire);
    pieces[1].Data = report->Entries;
    pieces[1].Length = (UINT32)(end - report->Entries);
    wire.Header.Length = (UINT32)(sizeof(wire) - sizeof(wire.Header)) + pieces[1].Length;
    *status = IoQueuePush(report->Events->Queue, pieces, RTL_NUMBER_OF(pieces), &uncounted);
    return TRUE;
}

// Counts the cells from `first` up to the next record again, so the next report has them.
static VOID BandwidthCountBack(const BANDWIDTH_REPORT *report, SHARD_CURSOR first)
{
    while (first.Array != report->Next.Array || first.Index != report->Next.Index)
    {
        const UINT64 *cell = BandwidthNext(report, &first);
        const BANDWIDTH_COUNTERS *counters;
        CONNECTION_PLACE place;

        if (cell == NULL)
        {
            break;
        }
        counters = (const BANDWIDTH_COUNTERS *)(cell + report->Map->KeyWords - 1);
        place.Map = report->Map;
        RtlCopyMemory(place.In.Key, cell, report->Map->KeyWords * sizeof(UINT64));
        place.In.Key[report->Map->KeyWords - 1] &= SHARD_KEY_MASK;
        ShardMapLocate(report->Map, &place.In, report->Map->KeyWords);
        // These bytes are lost if the pool has no memory, like the bytes of a new connection.
        (VOID) BandwidthAddAt(report->Bandwidth, &place, counters->TransmittedBytes, counters->ReceivedBytes);
    }
}

// Queues all records of one family. Returns the first failure.
static NTSTATUS BandwidthPushRecords(BANDWIDTH_REPORT *report)
{
    SHARD_CURSOR first = report->Next;
    NTSTATUS result = STATUS_SUCCESS;
    NTSTATUS status;

    while (BandwidthPushRecord(report, &status))
    {
        if (!NT_SUCCESS(status))
        {
            BandwidthCountBack(report, first);
            result = NT_SUCCESS(result) ? status : result;
        }
        first = report->Next;
    }
    return result;
}

static NTSTATUS BandwidthReportFamily(BANDWIDTH_REPORT *report)
{
    UINT8 smallRecord[BANDWIDTH_SMALL_RECORD_ENTRIES * WIRE_BANDWIDTH_ENTRY_V6];
    SIZE_T entrySize = report->Family.IpVersion == 4 ? WIRE_BANDWIDTH_ENTRY_V4 : WIRE_BANDWIDTH_ENTRY_V6;
    UINT8 *largeRecord = NULL;
    NTSTATUS status;

    report->Capacity = BandwidthCapacity(report);
    if (report->Capacity > BANDWIDTH_SMALL_RECORD_ENTRIES)
    {
        largeRecord = (UINT8 *)MemoryAllocateUninitialized(report->Bandwidth->Memory, report->Capacity * entrySize);
    }
    report->Entries = largeRecord;
    if (largeRecord == NULL)
    {
        report->Entries = smallRecord;
        report->Capacity = BANDWIDTH_SMALL_RECORD_ENTRIES;
    }
    status = BandwidthPushRecords(report);
    report->Entries = NULL;
    MemoryFree(report->Bandwidth->Memory, largeRecord);
    return status;
}

_Use_decl_annotations_
NTSTATUS BandwidthReport(BANDWIDTH *bandwidth, EVENTS *events)
{
    CONNECTION_MAP *connections = &bandwidth->Connections;
    SHARD_ARRAY *takenV4 = ShardMapTakeAll(&connections->V4);
    SHARD_ARRAY *takenV6 = ShardMapTakeAll(&connections->V6);
    NTSTATUS result = STATUS_SUCCESS;
    BANDWIDTH_REPORT report;
    UINT32 i;

    RtlZeroMemory(&report, sizeof(report));
    report.Bandwidth = bandwidth;
    report.Events = events;
    for (i = 0; i < RTL_NUMBER_OF(BandwidthFamilies); i++)
    {
        NTSTATUS status;

        report.Family = BandwidthFamilies[i];
        report.Map = report.Family.IpVersion == 4 ? &connections->V4 : &connections->V6;
        report.Next.Array = report.Family.IpVersion == 4 ? takenV4 : takenV6;
        report.Next.Index = 0;
        status = BandwidthReportFamily(&report);
        result = NT_SUCCESS(result) ? status : result;
    }
    ShardMapFreeTaken(&connections->V4, takenV4);
    ShardMapFreeTaken(&connections->V6, takenV6);
    return result;
}

_Use_decl_annotations_
VOID BandwidthClear(BANDWIDTH *bandwidth)
{
    CONNECTION_MAP *connections = &bandwidth->Connections;

    ShardMapFreeTaken(&connections->V4, ShardMapTakeAll(&connections->V4));
    ShardMapFreeTaken(&connections->V6, ShardMapTakeAll(&connections->V6));
}

_Use_decl_annotations_
UINT64 BandwidthEntries(const BANDWIDTH *bandwidth)
{
    return ShardQuotaCount(&bandwidth->Connections.Quota);
}

_Use_decl_annotations_
UINT64 BandwidthBytes(BANDWIDTH *bandwidth)
{
    return ConnectionMapBytes(&bandwidth->Connections);
}
