#include "redirect.h"

#include "checksum.h"

#define IPV4_CHECKSUM_OFFSET 10u
#define IPV4_SOURCE_OFFSET   12u
#define IPV6_SOURCE_OFFSET   8u
#define PORTS_LENGTH         4u

// Source and destination, in the order in which the packet has them.
typedef struct _ENDS
{
    UINT8 Addresses[32];
    UINT32 AddressesLength;
    UINT8 Ports[PORTS_LENGTH];
} ENDS;

static VOID RedirectSetLoopback(UINT8 ipVersion, UINT8 address[16])
{
    RtlZeroMemory(address, 16);
    if (ipVersion == 4)
    {
        address[0] = 127;
        address[3] = 1;
        return;
    }
    address[15] = 1;
}

_Use_decl_annotations_
NTSTATUS RedirectStart(REDIRECT_TABLE *table, UINT8 verdict, UINT16 port, UINT8 scope, const CONNECTION_KEY *original,
                       CONNECTION_KEY *target)
{
    *target = *original;
    target->Scope = scope;
    if (!ConnectionKeyHasPorts(original) || scope == SCOPE_NONE)
    {
        return STATUS_NOT_SUPPORTED;
    }
    if (VerdictRow(verdict)->Port == OwnPortDns)
    {
        RedirectSetLoopback(target->IpVersion, target->LocalAddress);
    }
    RtlCopyMemory(target->RemoteAddress, target->LocalAddress, sizeof(target->RemoteAddress));
    target->RemotePort = port;
    return RedirectTableNote(table, target, original);
}

// ---- Rewriting

static VOID RedirectStorePort(UINT8 *bytes, UINT16 port)
{
    bytes[0] = (UINT8)(port >> 8);
    bytes[1] = (UINT8)port;
}

static VOID RedirectEnds(const CONNECTION_KEY *key, UINT8 direction, ENDS *ends)
{
    BOOLEAN outbound = direction == DirectionOutbound;
    UINT32 length = key->IpVersion == 6 ? 16 : 4;

    RtlCopyMemory(ends->Addresses, outbound ? key->LocalAddress : key->RemoteAddress, length);
    RtlCopyMemory(ends->Addresses + length, outbound ? key->RemoteAddress : key->LocalAddress, length);
    ends->AddressesLength = length * 2;
    RedirectStorePort(ends->Ports, outbound ? key->LocalPort : key->RemotePort);
    RedirectStorePort(ends->Ports + sizeof(UINT16), outbound ? key->RemotePort : key->LocalPort);
}

static VOID RedirectRewriteTransport(UINT8 *transport, const IP_HEADER *header, const UINT8 *oldAddresses,
                                     const ENDS *ends)
{
    UINT8 *field = transport + ChecksumTransportOffset(header->Protocol);
    UINT16 before = ChecksumLoad(field);
    UINT16 updated = ChecksumUpdateBytes(before, oldAddresses, ends->Addresses, ends->AddressesLength);

    updated = ChecksumUpdateBytes(updated, transport, ends->Ports, PORTS_LENGTH);
    if (header->Protocol == PROTOCOL_UDP)
    {
        updated = ChecksumUpdateUdp(header->IpVersion, before, updated);
    }
    ChecksumStore(field, updated);
    RtlCopyMemory(transport, ends->Ports, PORTS_LENGTH);
}

_Use_decl_annotations_
NTSTATUS RedirectRewrite(UINT8 *packet, UINT32 length, const CONNECTION_KEY *key, UINT8 direction)
{
    UINT8 *addresses;
    IP_HEADER header;
    ENDS ends;

    if (!NT_SUCCESS(IpHeaderParse(packet, length, length, &header)) || header.IpVersion != key->IpVersion ||
        header.SourceRouted)
    {
        return STATUS_INVALID_PARAMETER;
    }
    RedirectEnds(key, direction, &ends);
    addresses = packet + (header.IpVersion == 6 ? IPV6_SOURCE_OFFSET : IPV4_SOURCE_OFFSET);

    // Only the first fragment has the transport header.
    if ((!header.Fragment || header.FirstFragment) &&
        (header.Protocol == PROTOCOL_TCP || header.Protocol == PROTOCOL_UDP))
    {
        RedirectRewriteTransport(packet + header.HeaderLength, &header, addresses, &ends);
    }
    if (header.IpVersion == 4)
    {
        UINT8 *field = packet + IPV4_CHECKSUM_OFFSET;

        ChecksumStore(field, ChecksumUpdateBytes(ChecksumLoad(field), addresses, ends.Addresses, ends.AddressesLength));
    }
    RtlCopyMemory(addresses, ends.Addresses, ends.AddressesLength);
    return STATUS_SUCCESS;
}

_Use_decl_annotations_
INJECT_PACKET *RedirectChain(INJECT_PACKET *packets, const CONNECTION_KEY *key, UINT8 direction)
{
    INJECT_PACKET *rewritten = NULL;
    INJECT_PACKET **last = &rewritten;

    while (packets != NULL)
    {
        INJECT_PACKET *packet = packets;
        STATISTICS *statistics = packet->Injector->Statistics;

        packets = packet->Next;
        packet->Next = NULL;
        if (NT_SUCCESS(RedirectRewrite(packet->Data, packet->Length, key, direction)))
        {
            StatisticsAdd(statistics, StatisticPacketsRedirected, 1);
            *last = packet;
            last = &packet->Next;
        }
        else
        {
            StatisticsAdd(statistics, StatisticInjectFailures, 1);
            InjectDropChain(packet);
        }
    }
    return rewritten;
}
