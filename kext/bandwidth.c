#include "bandwidth.h"

#define SHARD_INDEX_SHIFT (64 - BANDWIDTH_SHARD_SHIFT)
#define SHARD_LEAST_CELLS 4u

// An array grows beyond 5/8 full, as in the connection table.
#define SHARD_FULL_NUMERATOR   5u
#define SHARD_FULL_DENOMINATOR 8u

// Entries that a record gets when there is no memory for a larger one: they fit on the stack.
#define SMALL_RECORD_ENTRIES 8u

typedef struct _BANDWIDTH_CELL
{
    CONNECTION_KEY Key;
    UINT64 TransmittedBytes;
    UINT64 ReceivedBytes;
    UINT32 Hash; // low bits; they also choose the cell
    UINT32 InUse;
} BANDWIDTH_CELL;

static_assert(sizeof(BANDWIDTH_CELL) == PLATFORM_CACHE_LINE, "one line an update");

// Precedes the cells, so that a report can chain the arrays that it took without memory of its own.
typedef struct _BANDWIDTH_ARRAY
{
    struct _BANDWIDTH_ARRAY *Next;
    UINT32 CellCount;
    UINT8 Padding[PLATFORM_CACHE_LINE - sizeof(PVOID) - sizeof(UINT32)];
} BANDWIDTH_ARRAY;

static_assert(sizeof(BANDWIDTH_ARRAY) == PLATFORM_CACHE_LINE, "the cells after it stay aligned");

struct _BANDWIDTH_SHARD
{
    KSPIN_LOCK Lock;
    BANDWIDTH_ARRAY *Array; // NULL: none
    UINT32 Mask;            // of Array
    UINT32 Count;
    UINT32 NextCellCount; // of the first array after a report: what the last period needed
    UINT8 Padding[PLATFORM_CACHE_LINE - sizeof(KSPIN_LOCK) - sizeof(PVOID) - 3 * sizeof(UINT32)];
};

static_assert(sizeof(BANDWIDTH_SHARD) == PLATFORM_CACHE_LINE, "shards must not share a line");

// One record's kind, in the order of the report.
typedef struct _BANDWIDTH_FAMILY
{
    UINT8 Protocol;
    UINT8 IpVersion;
} BANDWIDTH_FAMILY;

static const BANDWIDTH_FAMILY Families[] = {
    {PROTOCOL_TCP, 4},
    {PROTOCOL_TCP, 6},
    {PROTOCOL_UDP, 4},
    {PROTOCOL_UDP, 6},
};

static BANDWIDTH_CELL *CellsOf(BANDWIDTH_ARRAY *array)
{
    return (BANDWIDTH_CELL *)(array + 1);
}

static UINT32 CellCount(const BANDWIDTH_SHARD *shard)
{
    return shard->Array != NULL ? shard->Mask + 1 : 0;
}

// The cell of this key, or the empty one where it belongs, or NULL in a full array.
static BANDWIDTH_CELL *FindCell(const BANDWIDTH_SHARD *shard, const CONNECTION_KEY *key, UINT32 hash)
{
    UINT32 cells = CellCount(shard);
    UINT32 index = hash;
    UINT32 probes;

    for (probes = 0; probes < cells; probes++, index++)
    {
        BANDWIDTH_CELL *cell = &CellsOf(shard->Array)[index & shard->Mask];

        if (!cell->InUse || (cell->Hash == hash && ConnectionKeysEqual(&cell->Key, key)))
        {
            return cell;
        }
    }
    return NULL;
}

static BOOLEAN IsCrowded(UINT32 count, UINT32 cells)
{
    return (UINT64)count * SHARD_FULL_DENOMINATOR > (UINT64)cells * SHARD_FULL_NUMERATOR;
}

_Use_decl_annotations_
NTSTATUS BandwidthInitialize(BANDWIDTH *bandwidth, MEMORY *memory, UINT64 maxEntries)
{
    UINT32 i;

    RtlZeroMemory(bandwidth, sizeof(*bandwidth));
    bandwidth->Memory = memory;
    bandwidth->MaxEntries = maxEntries;
    SipHashKeyInitialize(&bandwidth->HashKey);
    bandwidth->Shards =
        (BANDWIDTH_SHARD *)MemoryAllocateCacheAligned(memory, BANDWIDTH_SHARD_COUNT * sizeof(BANDWIDTH_SHARD));
    if (bandwidth->Shards == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    for (i = 0; i < BANDWIDTH_SHARD_COUNT; i++)
    {
        KeInitializeSpinLock(&bandwidth->Shards[i].Lock);
        bandwidth->Shards[i].NextCellCount = SHARD_LEAST_CELLS;
    }
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
VOID BandwidthUninitialize(BANDWIDTH *bandwidth)
{
    if (bandwidth->Shards != NULL)
    {
        BandwidthClear(bandwidth);
    }
    MemoryFree(bandwidth->Memory, bandwidth->Shards);
    bandwidth->Shards = NULL;
}

// ---- Updates

// One update on its way, with the array that it has brought along or has to give back.
typedef struct _ADDITION
{
    const CONNECTION_KEY *Key;
    UINT32 Hash;
    UINT64 TransmittedBytes;
    UINT64 ReceivedBytes;
    BANDWIDTH_ARRAY *Array;
    BOOLEAN ArrayIsNew; // to be put in; else the old one, to be freed
    BOOLEAN GrowthFailed;
} ADDITION;

static NTSTATUS StartEntry(BANDWIDTH *bandwidth, BANDWIDTH_SHARD *shard, const ADDITION *addition, BANDWIDTH_CELL *cell)
{
    if (cell == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    if ((UINT64)InterlockedIncrement64(&bandwidth->Count) > bandwidth->MaxEntries)
    {
        InterlockedDecrement64(&bandwidth->Count);
        return STATUS_QUOTA_EXCEEDED;
    }
    cell->Key = *addition->Key;
    cell->TransmittedBytes = addition->TransmittedBytes;
    cell->ReceivedBytes = addition->ReceivedBytes;
    cell->Hash = addition->Hash;
    cell->InUse = TRUE;
    shard->Count++;
    return STATUS_SUCCESS;
}

// Puts in the array that was brought along, if it is still the larger one; the old one is brought back.
static VOID ReplaceArray(BANDWIDTH_SHARD *shard, ADDITION *addition)
{
    BANDWIDTH_ARRAY *old = shard->Array;
    UINT32 oldCount = CellCount(shard);
    UINT32 i;

    if (!addition->ArrayIsNew || addition->Array->CellCount <= oldCount)
    {
        return;
    }
    shard->Array = addition->Array;
    shard->Mask = addition->Array->CellCount - 1;
    for (i = 0; i < oldCount; i++)
    {
        const BANDWIDTH_CELL *cell = &CellsOf(old)[i];

        if (cell->InUse)
        {
            *FindCell(shard, &cell->Key, cell->Hash) = *cell;
        }
    }
    addition->Array = old;
    addition->ArrayIsNew = FALSE;
}

// With the shard's lock held. STATUS_RETRY: the shard should grow first.
static NTSTATUS TryAdd(BANDWIDTH *bandwidth, BANDWIDTH_SHARD *shard, ADDITION *addition)
{
    BANDWIDTH_CELL *cell = FindCell(shard, addition->Key, addition->Hash);

    if (cell != NULL && cell->InUse)
    {
        cell->TransmittedBytes += addition->TransmittedBytes;
        cell->ReceivedBytes += addition->ReceivedBytes;
        return STATUS_SUCCESS;
    }
    ReplaceArray(shard, addition);
    if (IsCrowded(shard->Count + 1, CellCount(shard)) && !addition->GrowthFailed)
    {
        return STATUS_RETRY;
    }
    return StartEntry(bandwidth, shard, addition, FindCell(shard, addition->Key, addition->Hash));
}

// Without a lock. An array that cannot be had is no error yet: the shard goes on until it is really full.
static VOID PrepareGrowth(BANDWIDTH *bandwidth, ADDITION *addition, UINT32 cellCount)
{
    MemoryFree(bandwidth->Memory, addition->Array);
    addition->Array = (BANDWIDTH_ARRAY *)MemoryAllocateCacheAligned(
        bandwidth->Memory, sizeof(BANDWIDTH_ARRAY) + (SIZE_T)cellCount * sizeof(BANDWIDTH_CELL));
    addition->ArrayIsNew = addition->Array != NULL;
    addition->GrowthFailed = addition->Array == NULL;
    if (addition->Array != NULL)
    {
        addition->Array->CellCount = cellCount;
    }
}

_Use_decl_annotations_
NTSTATUS BandwidthAdd(BANDWIDTH *bandwidth, const CONNECTION_KEY *key, UINT64 transmittedBytes, UINT64 receivedBytes)
{
    UINT64 hash = SipHash13Of40(&bandwidth->HashKey, key);
    BANDWIDTH_SHARD *shard = &bandwidth->Shards[hash >> SHARD_INDEX_SHIFT];
    ADDITION addition = {key, (UINT32)hash, transmittedBytes, receivedBytes, NULL, FALSE, FALSE};
    NTSTATUS status;

    if ((key->Protocol != PROTOCOL_TCP && key->Protocol != PROTOCOL_UDP) ||
        (key->IpVersion != 4 && key->IpVersion != 6))
    {
        return STATUS_INVALID_PARAMETER;
    }
    for (;;)
    {
        UINT32 nextCells;
        KIRQL irql;

        KeAcquireSpinLock(&shard->Lock, &irql);
        status = TryAdd(bandwidth, shard, &addition);
        nextCells = shard->Array != NULL ? CellCount(shard) * 2 : shard->NextCellCount;
        KeReleaseSpinLock(&shard->Lock, irql);
        if (status != STATUS_RETRY)
        {
            break;
        }
        PrepareGrowth(bandwidth, &addition, nextCells);
    }
    MemoryFree(bandwidth->Memory, addition.Array);
    return status;
}

_Use_decl_annotations_
VOID BandwidthCountBytes(BANDWIDTH *bandwidth, LOG *log, const CONNECTION_KEY *key, UINT64 transmittedBytes,
                         UINT64 receivedBytes)
{
    NTSTATUS status = BandwidthAdd(bandwidth, key, transmittedBytes, receivedBytes);

    if (!NT_SUCCESS(status) && LogMayRepeat(log, LogLimitBandwidth))
    {
        LogWarning(log, "A connection's bytes could not be counted: status 0x%08x", (unsigned)status);
    }
}

// ---- Reports

static UINT32 FittingCells(UINT32 count)
{
    UINT32 cells = SHARD_LEAST_CELLS;

    while (IsCrowded(count, cells))
    {
        cells *= 2;
    }
    return cells;
}

// Takes all that a shard has counted and puts it before `taken`.
static BANDWIDTH_ARRAY *TakeShard(BANDWIDTH *bandwidth, BANDWIDTH_SHARD *shard, BANDWIDTH_ARRAY *taken)
{
    BANDWIDTH_ARRAY *array;
    UINT32 count;
    KIRQL irql;

    KeAcquireSpinLock(&shard->Lock, &irql);
    array = shard->Array;
    count = shard->Count;
    shard->Array = NULL;
    shard->Count = 0;
    shard->NextCellCount = FittingCells(count);
    KeReleaseSpinLock(&shard->Lock, irql);

    if (array == NULL)
    {
        return taken;
    }
    InterlockedExchangeAdd64(&bandwidth->Count, -(LONG64)count);
    array->Next = taken;
    return array;
}

static BANDWIDTH_ARRAY *TakeAll(BANDWIDTH *bandwidth)
{
    BANDWIDTH_ARRAY *taken = NULL;
    UINT32 i;

    for (i = 0; i < BANDWIDTH_SHARD_COUNT; i++)
    {
        taken = TakeShard(bandwidth, &bandwidth->Shards[i], taken);
    }
    return taken;
}

static VOID FreeArrays(BANDWIDTH *bandwidth, BANDWIDTH_ARRAY *taken)
{
    while (taken != NULL)
    {
        BANDWIDTH_ARRAY *next = taken->Next;

        MemoryFree(bandwidth->Memory, taken);
        taken = next;
    }
}

static BOOLEAN IsOfFamily(const BANDWIDTH_CELL *cell, const BANDWIDTH_FAMILY *family)
{
    return cell->InUse && cell->Key.Protocol == family->Protocol && cell->Key.IpVersion == family->IpVersion;
}

static UINT64 CountFamily(BANDWIDTH_ARRAY *taken, const BANDWIDTH_FAMILY *family)
{
    UINT64 count = 0;
    UINT32 i;

    for (; taken != NULL; taken = taken->Next)
    {
        for (i = 0; i < taken->CellCount; i++)
        {
            count += IsOfFamily(&CellsOf(taken)[i], family) ? 1 : 0;
        }
    }
    return count;
}

// A record under construction.
typedef struct _RECORD
{
    BANDWIDTH *Bandwidth;
    EVENTS *Events;
    const BANDWIDTH_FAMILY *Family;
    UINT8 *Entries;
    UINT32 EntrySize;
    UINT32 Capacity;
    UINT32 Count;
    NTSTATUS Status; // the first failure
} RECORD;

// Entries of both IP versions have the same fields, one after the other; only the addresses differ in length.
static UINT32 AddressLength(const CONNECTION_KEY *key)
{
    return key->IpVersion == 6 ? 16 : 4;
}

static UINT8 *Put(UINT8 *entry, const VOID *field, UINT32 length)
{
    RtlCopyMemory(entry, field, length);
    return entry + length;
}

static const UINT8 *Get(const UINT8 *entry, VOID *field, UINT32 length)
{
    RtlCopyMemory(field, entry, length);
    return entry + length;
}

static VOID EncodeEntry(const BANDWIDTH_CELL *cell, UINT8 *entry)
{
    const CONNECTION_KEY *key = &cell->Key;

    entry = Put(entry, key->LocalAddress, AddressLength(key));
    entry = Put(entry, &key->LocalPort, sizeof(key->LocalPort));
    entry = Put(entry, key->RemoteAddress, AddressLength(key));
    entry = Put(entry, &key->RemotePort, sizeof(key->RemotePort));
    entry = Put(entry, &cell->TransmittedBytes, sizeof(cell->TransmittedBytes));
    (VOID) Put(entry, &cell->ReceivedBytes, sizeof(cell->ReceivedBytes));
}

// Counts an encoded entry again, for the next report.
static VOID AddBack(const RECORD *record, const UINT8 *entry)
{
    CONNECTION_KEY key;
    UINT64 transmittedBytes;
    UINT64 receivedBytes;

    RtlZeroMemory(&key, sizeof(key));
    key.Protocol = record->Family->Protocol;
    key.IpVersion = record->Family->IpVersion;
    entry = Get(entry, key.LocalAddress, AddressLength(&key));
    entry = Get(entry, &key.LocalPort, sizeof(key.LocalPort));
    entry = Get(entry, key.RemoteAddress, AddressLength(&key));
    entry = Get(entry, &key.RemotePort, sizeof(key.RemotePort));
    entry = Get(entry, &transmittedBytes, sizeof(transmittedBytes));
    (VOID) Get(entry, &receivedBytes, sizeof(receivedBytes));
    // Without memory these bytes are not counted, as those of a new connection would not be.
    (VOID) BandwidthAdd(record->Bandwidth, &key, transmittedBytes, receivedBytes);
}

static VOID PushRecord(RECORD *record)
{
    UINT32 entryBytes = record->Count * record->EntrySize;
    BANDWIDTH_STATS_WIRE wire;
    IO_QUEUE_PIECE pieces[2];
    NTSTATUS status;
    UINT32 i;

    if (record->Count == 0)
    {
        return;
    }
    wire.Header.Type = record->Family->IpVersion == 4 ? InfoBandwidthStatsV4 : InfoBandwidthStatsV6;
    wire.Header.Length = (UINT32)(sizeof(wire) - sizeof(wire.Header)) + entryBytes;
    wire.Protocol = record->Family->Protocol;
    wire.Count = record->Count;
    pieces[0].Data = &wire;
    pieces[0].Length = sizeof(wire);
    pieces[1].Data = record->Entries;
    pieces[1].Length = entryBytes;

    status = IoQueuePush(record->Events->Queue, pieces, RTL_NUMBER_OF(pieces), LossUncounted);
    for (i = 0; !NT_SUCCESS(status) && i < record->Count; i++)
    {
        AddBack(record, record->Entries + (SIZE_T)i * record->EntrySize);
    }
    record->Status = NT_SUCCESS(record->Status) ? status : record->Status;
    record->Count = 0;
}

static VOID FillRecords(RECORD *record, BANDWIDTH_ARRAY *taken)
{
    UINT32 i;

    for (; taken != NULL; taken = taken->Next)
    {
        for (i = 0; i < taken->CellCount; i++)
        {
            if (!IsOfFamily(&CellsOf(taken)[i], record->Family))
            {
                continue;
            }
            EncodeEntry(&CellsOf(taken)[i], record->Entries + (SIZE_T)record->Count * record->EntrySize);
            record->Count++;
            if (record->Count == record->Capacity)
            {
                PushRecord(record);
            }
        }
    }
    PushRecord(record);
}

static NTSTATUS ReportFamily(BANDWIDTH *bandwidth, EVENTS *events, BANDWIDTH_ARRAY *taken,
                             const BANDWIDTH_FAMILY *family)
{
    UINT8 smallRecord[SMALL_RECORD_ENTRIES * sizeof(BANDWIDTH_ENTRY_V6_WIRE)];
    UINT64 count = CountFamily(taken, family);
    UINT8 *largeRecord = NULL;
    RECORD record;

    record.Bandwidth = bandwidth;
    record.Events = events;
    record.Family = family;
    record.Entries = smallRecord;
    record.EntrySize = family->IpVersion == 4 ? sizeof(BANDWIDTH_ENTRY_V4_WIRE) : sizeof(BANDWIDTH_ENTRY_V6_WIRE);
    record.Capacity = SMALL_RECORD_ENTRIES;
    record.Count = 0;
    record.Status = STATUS_SUCCESS;
    if (count > SMALL_RECORD_ENTRIES)
    {
        UINT32 capacity = count < PROTOCOL_MAX_BANDWIDTH_ENTRIES ? (UINT32)count : PROTOCOL_MAX_BANDWIDTH_ENTRIES;

        largeRecord = (UINT8 *)MemoryAllocateUninitialized(bandwidth->Memory, (SIZE_T)capacity * record.EntrySize);
        record.Entries = largeRecord != NULL ? largeRecord : smallRecord;
        record.Capacity = largeRecord != NULL ? capacity : SMALL_RECORD_ENTRIES;
    }
    if (count != 0)
    {
        FillRecords(&record, taken);
    }
    MemoryFree(bandwidth->Memory, largeRecord);
    return record.Status;
}

_Use_decl_annotations_
NTSTATUS BandwidthReport(BANDWIDTH *bandwidth, EVENTS *events)
{
    BANDWIDTH_ARRAY *taken = TakeAll(bandwidth);
    NTSTATUS result = STATUS_SUCCESS;
    UINT32 i;

    for (i = 0; i < RTL_NUMBER_OF(Families); i++)
    {
        NTSTATUS status = ReportFamily(bandwidth, events, taken, &Families[i]);

        result = NT_SUCCESS(result) ? status : result;
    }
    FreeArrays(bandwidth, taken);
    return result;
}

_Use_decl_annotations_
VOID BandwidthClear(BANDWIDTH *bandwidth)
{
    FreeArrays(bandwidth, TakeAll(bandwidth));
}

_Use_decl_annotations_
UINT64 BandwidthCount(const BANDWIDTH *bandwidth)
{
    return (UINT64)ReadNoFence64(&bandwidth->Count);
}

_Use_decl_annotations_
UINT64 BandwidthBytes(BANDWIDTH *bandwidth)
{
    UINT64 bytes = BANDWIDTH_SHARD_COUNT * sizeof(BANDWIDTH_SHARD);
    UINT32 i;

    for (i = 0; i < BANDWIDTH_SHARD_COUNT; i++)
    {
        BANDWIDTH_SHARD *shard = &bandwidth->Shards[i];
        KIRQL irql;

        KeAcquireSpinLock(&shard->Lock, &irql);
        bytes += shard->Array != NULL ? sizeof(BANDWIDTH_ARRAY) + (UINT64)CellCount(shard) * sizeof(BANDWIDTH_CELL) : 0;
        KeReleaseSpinLock(&shard->Lock, irql);
    }
    return bytes;
}
