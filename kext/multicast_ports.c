#include "multicast_ports.h"

#define PAGE_SIZE_PORTS 256u
#define TICK_MS         100u

// The stack's own clock may differ by a tick on either side.
#define ANSWER_TICKS (MULTICAST_PORTS_ANSWER_MS / TICK_MS + 2u)

typedef struct _MULTICAST_PORTS_PAGE
{
    volatile LONG Sent[PAGE_SIZE_PORTS]; // MulticastPortsTick of the last send; 0: never
} MULTICAST_PORTS_PAGE;

// Never 0.
static LONG MulticastPortsTick(const MULTICAST_PORTS *ports)
{
    return (LONG)(UINT32)(ClockNow(ports->Clock) / (TICK_MS * PLATFORM_TICKS_PER_MILLISECOND)) | 1;
}

static BOOLEAN MulticastPortsIsRecent(const MULTICAST_PORTS *ports, LONG tick)
{
    return tick != 0 && (UINT32)MulticastPortsTick(ports) - (UINT32)tick <= ANSWER_TICKS;
}

static volatile LONG64 *MulticastPortsSlot(MULTICAST_PORTS *ports, UINT8 ipVersion, UINT16 port)
{
    return &ports->Pages[ipVersion == 6][port / PAGE_SIZE_PORTS];
}

static MULTICAST_PORTS_PAGE *MulticastPortsPage(const volatile LONG64 *slot)
{
    return (MULTICAST_PORTS_PAGE *)(ULONG_PTR)ReadAcquire64(slot);
}

// NULL: no memory.
static MULTICAST_PORTS_PAGE *MulticastPortsBringPage(MULTICAST_PORTS *ports, volatile LONG64 *slot)
{
    MULTICAST_PORTS_PAGE *page = MulticastPortsPage(slot);

    if (page == NULL)
    {
        page = (MULTICAST_PORTS_PAGE *)MemoryAllocate(ports->Memory, sizeof(*page));
        if (page != NULL && InterlockedCompareExchange64(slot, (LONG64)(ULONG_PTR)page, 0) != 0)
        {
            MemoryFree(ports->Memory, page);
            page = MulticastPortsPage(slot);
        }
    }
    return page;
}

_Use_decl_annotations_
VOID MulticastPortsInitialize(MULTICAST_PORTS *ports, MEMORY *memory, const CLOCK *clock)
{
    RtlZeroMemory(ports, sizeof(*ports));
    ports->Memory = memory;
    ports->Clock = clock;
}

_Use_decl_annotations_
VOID MulticastPortsUninitialize(MULTICAST_PORTS *ports)
{
    UINT32 page;

    for (page = 0; page < MULTICAST_PORTS_PAGE_COUNT; page++)
    {
        MemoryFree(ports->Memory, MulticastPortsPage(&ports->Pages[0][page]));
        MemoryFree(ports->Memory, MulticastPortsPage(&ports->Pages[1][page]));
    }
}

_Use_decl_annotations_
VOID MulticastPortsNote(MULTICAST_PORTS *ports, UINT8 ipVersion, UINT16 port)
{
    MULTICAST_PORTS_PAGE *page = MulticastPortsBringPage(ports, MulticastPortsSlot(ports, ipVersion, port));
    volatile LONG *sent = page != NULL ? &page->Sent[port % PAGE_SIZE_PORTS] : &ports->AnyPort;
    LONG tick = MulticastPortsTick(ports);

    if (ReadNoFence(sent) != tick)
    {
        WriteNoFence(sent, tick);
    }
}

_Use_decl_annotations_
BOOLEAN MulticastPortsTakeAnswers(const MULTICAST_PORTS *ports, UINT8 ipVersion, UINT16 port)
{
    const MULTICAST_PORTS_PAGE *page = MulticastPortsPage(&ports->Pages[ipVersion == 6][port / PAGE_SIZE_PORTS]);

    return (page != NULL && MulticastPortsIsRecent(ports, ReadNoFence(&page->Sent[port % PAGE_SIZE_PORTS]))) ||
           MulticastPortsIsRecent(ports, ReadNoFence(&ports->AnyPort));
}
