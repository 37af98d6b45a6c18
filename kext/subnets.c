#include "subnets.h"

// A longer prefix leaves no address for a broadcast (RFC 3021).
#define SUBNETS_LONGEST_PREFIX 30u

_Use_decl_annotations_
VOID SubnetsInitialize(SUBNETS *subnets, MEMORY *memory, DEFERRED *deferred, LOG *log)
{
    RtlZeroMemory(subnets, sizeof(*subnets));
    subnets->Memory = memory;
    subnets->Deferred = deferred;
    subnets->Log = log;
    RwLockInitialize(&subnets->Lock);
}

// The documentation of the notification names no IRQL.
static VOID NTAPI SubnetsChanged(PVOID context, PMIB_UNICASTIPADDRESS_ROW row, MIB_NOTIFICATION_TYPE type)
{
    SUBNETS *subnets = (SUBNETS *)context;

    UNREFERENCED_PARAMETER(row);
    UNREFERENCED_PARAMETER(type);
    DeferredRequest(subnets->Deferred, DEFERRED_SUBNETS);
    DeferredQueue(subnets->Deferred);
}

_Use_decl_annotations_
VOID SubnetsStart(SUBNETS *subnets)
{
    NTSTATUS status = NotifyUnicastIpAddressChange(AF_INET, SubnetsChanged, subnets, FALSE, &subnets->Notification);

    if (!NT_SUCCESS(status))
    {
        subnets->Notification = NULL;
        LogWarning(subnets->Log, "The system does not notify of new addresses: status 0x%08x", (unsigned)status);
    }
    SubnetsRead(subnets);
}

_Use_decl_annotations_
VOID SubnetsStop(SUBNETS *subnets)
{
    if (subnets->Notification != NULL)
    {
        (VOID) CancelMibChangeNotify2(subnets->Notification);
        subnets->Notification = NULL;
    }
}

_Use_decl_annotations_
VOID SubnetsUninitialize(SUBNETS *subnets)
{
    MemoryFree(subnets->Memory, subnets->Broadcasts);
}

static UINT32 SubnetsLoad(const UINT8 *bytes)
{
    return (UINT32)bytes[0] << 24 | (UINT32)bytes[1] << 16 | (UINT32)bytes[2] << 8 | bytes[3];
}

// Returns how many of the addresses, which ascend, are below `sought`.
static UINT32 SubnetsCountBelow(const UINT32 *broadcasts, UINT32 count, UINT32 sought)
{
    UINT32 below = 0;

    while (below < count)
    {
        UINT32 middle = below + (count - below) / 2;

        if (broadcasts[middle] < sought)
        {
            below = middle + 1;
        }
        else
        {
            count = middle;
        }
    }
    return below;
}

// Inserts an address where it keeps the order.
static VOID SubnetsInsert(UINT32 *broadcasts, UINT32 count, UINT32 address)
{
    UINT32 place = SubnetsCountBelow(broadcasts, count, address);

    RtlMoveMemory(&broadcasts[place + 1], &broadcasts[place], (count - place) * sizeof(*broadcasts));
    broadcasts[place] = address;
}

// Collects the broadcast addresses of the first rows, in ascending order. Returns how many there are.
static UINT32 SubnetsCollect(const MIB_UNICASTIPADDRESS_TABLE *table, UINT32 rows, UINT32 *broadcasts)
{
    UINT32 count = 0;
    UINT32 i;

    for (i = 0; i < rows; i++)
    {
        const MIB_UNICASTIPADDRESS_ROW *row = &table->Table[i];

        if (row->Address.si_family == AF_INET && row->OnLinkPrefixLength != 0 &&
            row->OnLinkPrefixLength <= SUBNETS_LONGEST_PREFIX)
        {
            SubnetsInsert(broadcasts, count,
                          SubnetsLoad((const UINT8 *)&row->Address.Ipv4.sin_addr) |
                              MAXUINT32 >> row->OnLinkPrefixLength);
            count++;
        }
    }
    return count;
}

// Leaves the result of a round, unless a later one has left its own. Takes `broadcasts` over.
static VOID SubnetsStore(SUBNETS *subnets, LONG64 round, UINT32 *broadcasts, UINT32 count)
{
    UINT32 *unused = broadcasts;
    KIRQL irql = RwLockAcquireExclusive(&subnets->Lock);

    if (round > subnets->Round)
    {
        unused = subnets->Broadcasts;
        subnets->Round = round;
        subnets->Broadcasts = broadcasts;
        subnets->Count = count;
    }
    RwLockReleaseExclusive(&subnets->Lock, irql);
    MemoryFree(subnets->Memory, unused);
}

static NTSTATUS SubnetsReadTable(SUBNETS *subnets, LONG64 round)
{
    MIB_UNICASTIPADDRESS_TABLE *table;
    UINT32 *broadcasts;
    UINT32 rows;
    NTSTATUS status = GetUnicastIpAddressTable(AF_INET, &table);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    rows = table->NumEntries < SUBNETS_MAX ? table->NumEntries : SUBNETS_MAX;
    broadcasts = (UINT32 *)MemoryAllocate(subnets->Memory, (rows + 1) * sizeof(*broadcasts));
    if (broadcasts != NULL)
    {
        SubnetsStore(subnets, round, broadcasts, SubnetsCollect(table, rows, broadcasts));
    }
    FreeMibTable(table);
    return broadcasts != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

_Use_decl_annotations_
VOID SubnetsRead(SUBNETS *subnets)
{
    NTSTATUS status = SubnetsReadTable(subnets, InterlockedIncrement64(&subnets->LastRound));

    if (!NT_SUCCESS(status))
    {
        LogWarning(subnets->Log, "The addresses of this machine could not be read: status 0x%08x", (unsigned)status);
    }
}

_Use_decl_annotations_
BOOLEAN SubnetsHaveBroadcast(SUBNETS *subnets, const UINT8 *address)
{
    UINT32 sought = SubnetsLoad(address);
    BOOLEAN found;
    UINT32 below;
    KIRQL irql;

    irql = RwLockAcquireShared(&subnets->Lock);
    below = SubnetsCountBelow(subnets->Broadcasts, subnets->Count, sought);
    found = below < subnets->Count && subnets->Broadcasts[below] == sought;
    RwLockReleaseShared(&subnets->Lock, irql);
    return found;
}
