#include "control_traffic.h"

#include "address.h"
#include "icmp.h"

#define DHCP_CLIENT_PORT   68u
#define DHCP_SERVER_PORT   67u
#define DHCPV6_CLIENT_PORT 546u
#define DHCPV6_SERVER_PORT 547u

#define LINK_HOP_LIMIT     1u
#define NEIGHBOR_HOP_LIMIT 255u

// ff02::1:2, all DHCP relay agents and servers.
static const UINT8 AllDhcpServers[16] = {0xFF, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0, 0x02};

static BOOLEAN ControlHopLimitIs(UINT32 hopLimit, UINT32 right)
{
    return hopLimit == right || hopLimit == CONTROL_ANY_HOP_LIMIT;
}

static const UINT8 *ControlSource(const CONNECTION_KEY *key, UINT8 direction)
{
    return direction == DirectionOutbound ? key->LocalAddress : key->RemoteAddress;
}

static const UINT8 *ControlDestination(const CONNECTION_KEY *key, UINT8 direction)
{
    return direction == DirectionOutbound ? key->RemoteAddress : key->LocalAddress;
}

static BOOLEAN ControlIsDiscovery(const CONNECTION_KEY *key, UINT8 direction, UINT8 type, UINT32 hopLimit)
{
    const UINT8 *source = ControlSource(key, direction);

    if (type >= ICMPV6_ROUTER_SOLICIT && type <= ICMPV6_REDIRECT)
    {
        return ControlHopLimitIs(hopLimit, NEIGHBOR_HOP_LIMIT);
    }
    return ((type >= ICMPV6_MLD_QUERY && type <= ICMPV6_MLD_DONE) || type == ICMPV6_MLD_REPORT_V2) &&
           ControlHopLimitIs(hopLimit, LINK_HOP_LIMIT) &&
           (AddressIsLinkLocal(6, source) || AddressIsUnspecified(source));
}

// ---- DHCP

static BOOLEAN ControlIsDhcp(const CONNECTION_KEY *key)
{
    return key->IpVersion == 6 ? key->LocalPort == DHCPV6_CLIENT_PORT && key->RemotePort == DHCPV6_SERVER_PORT
                               : key->LocalPort == DHCP_CLIENT_PORT && key->RemotePort == DHCP_SERVER_PORT;
}

// The caller holds the lock, as in the next two functions.
static BOOLEAN ControlKnowsServer(const CONTROL_SERVERS *servers, const UINT8 *address)
{
    UINT32 i;

    for (i = 0; i < CONTROL_SERVER_COUNT; i++)
    {
        if (RtlEqualMemory(servers->Addresses[i], address, sizeof(servers->Addresses[i])))
        {
            return !AddressIsUnspecified(address);
        }
    }
    return FALSE;
}

static BOOLEAN ControlAsk(CONTROL_SERVERS *servers, const CONNECTION_KEY *key, UINT32 now)
{
    BOOLEAN toAll = key->IpVersion == 6 ? RtlEqualMemory(key->RemoteAddress, AllDhcpServers, sizeof(AllDhcpServers))
                                        : AddressIsLimitedBroadcast(4, key->RemoteAddress);

    if (!toAll && !ControlKnowsServer(servers, key->RemoteAddress))
    {
        return FALSE;
    }
    servers->Asked = now;
    servers->HasAsked = TRUE;
    return TRUE;
}

static BOOLEAN ControlAnswer(CONTROL_SERVERS *servers, const UINT8 *server, UINT32 now)
{
    if (!servers->HasAsked || now - servers->Asked > CONTROL_ANSWER_SECONDS)
    {
        return FALSE;
    }
    if (!ControlKnowsServer(servers, server))
    {
        RtlCopyMemory(servers->Addresses[servers->Next], server, sizeof(servers->Addresses[0]));
        servers->Next = (servers->Next + 1) % CONTROL_SERVER_COUNT;
    }
    return TRUE;
}

static BOOLEAN ControlPermitsDhcp(CONTROL_TRAFFIC *control, const CONNECTION_KEY *key, UINT8 direction)
{
    CONTROL_SERVERS *servers = &control->Servers[key->IpVersion == 6];
    UINT32 now = ClockSeconds(control->Clock);
    BOOLEAN permits;
    KIRQL irql;

    KeAcquireSpinLock(&control->Lock, &irql);
    permits = direction == DirectionOutbound ? ControlAsk(servers, key, now)
                                             : ControlAnswer(servers, key->RemoteAddress, now);
    KeReleaseSpinLock(&control->Lock, irql);
    return permits;
}

_Use_decl_annotations_
VOID ControlTrafficInitialize(CONTROL_TRAFFIC *control, const CLOCK *clock)
{
    RtlZeroMemory(control, sizeof(*control));
    control->Clock = clock;
    KeInitializeSpinLock(&control->Lock);
}

_Use_decl_annotations_
BOOLEAN ControlTrafficPermits(CONTROL_TRAFFIC *control, const CONNECTION_KEY *key, UINT8 direction, UINT8 icmpType,
                              UINT32 hopLimit)
{
    switch (key->Protocol)
    {
    case PROTOCOL_UDP:
        return ControlIsDhcp(key) && ControlPermitsDhcp(control, key, direction);
    case PROTOCOL_ICMPV6:
        return key->IpVersion == 6 && ControlIsDiscovery(key, direction, icmpType, hopLimit);
    case PROTOCOL_IGMP:
        return key->IpVersion == 4 && ControlHopLimitIs(hopLimit, LINK_HOP_LIMIT) &&
               AddressIsMulticast(4, ControlDestination(key, direction));
    default:
        return FALSE;
    }
}
