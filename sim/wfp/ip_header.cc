#include "ip_header.h"

#include "byte_order.h"
#include "ndis/net_buffer_objects.h"

#include <cstdint>
#include <cstring>

namespace sim::wfp
{
namespace
{

constexpr ULONG kIpv4Length = 20;
constexpr ULONG kIpv6Length = 40;
constexpr uint8_t kHopLimit = 128;
constexpr ULONG kLongestPacket = 0xFFFF;

uint16_t HeaderChecksum(const uint8_t *header, size_t length)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < length; i += 2)
    {
        sum += LoadBig16(header + i);
    }
    while (sum > 0xFFFF)
    {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    return static_cast<uint16_t>(~sum);
}

void MakeIpv4(uint8_t *header, ULONG packet_length, const UCHAR *source, const UCHAR *destination, IPPROTO protocol)
{
    header[0] = 0x45;
    StoreBig16(header + 2, static_cast<uint16_t>(packet_length));
    header[8] = kHopLimit;
    header[9] = static_cast<uint8_t>(protocol);
    std::memcpy(header + 12, source, 4);
    std::memcpy(header + 16, destination, 4);
    StoreBig16(header + 10, HeaderChecksum(header, kIpv4Length));
}

void MakeIpv6(uint8_t *header, ULONG packet_length, const UCHAR *source, const UCHAR *destination, IPPROTO protocol)
{
    header[0] = 0x60;
    StoreBig16(header + 4, static_cast<uint16_t>(packet_length - kIpv6Length));
    header[6] = static_cast<uint8_t>(protocol);
    header[7] = kHopLimit;
    std::memcpy(header + 8, source, 16);
    std::memcpy(header + 24, destination, 16);
}

} // namespace

NTSTATUS PrependIpHeader(NET_BUFFER &net_buffer, ULONG replaced, ADDRESS_FAMILY family, const UCHAR *source,
                         const UCHAR *destination, IPPROTO protocol)
{
    const bool ipv4 = family == AF_INET;
    const ULONG length = ipv4 ? kIpv4Length : kIpv6Length;

    if (replaced > net_buffer.DataLength || net_buffer.DataLength - replaced + length > kLongestPacket)
    {
        return STATUS_INVALID_PARAMETER;
    }
    NdisAdvanceNetBufferDataStart(&net_buffer, replaced, FALSE, nullptr);
    if (ndis::RetreatDataStart(&net_buffer, length, 0, nullptr) != NDIS_STATUS_SUCCESS)
    {
        ndis::RetreatDataStart(&net_buffer, replaced, 0, nullptr);
        return STATUS_INSUFFICIENT_RESOURCES;
    }

    auto *header = static_cast<uint8_t *>(ndis::DataBuffer(&net_buffer, length, nullptr, 1, 0));

    if (header == nullptr)
    {
        NdisAdvanceNetBufferDataStart(&net_buffer, length, TRUE, nullptr);
        ndis::RetreatDataStart(&net_buffer, replaced, 0, nullptr);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    std::memset(header, 0, length);
    (ipv4 ? MakeIpv4 : MakeIpv6)(header, net_buffer.DataLength, source, destination, protocol);
    return STATUS_SUCCESS;
}

} // namespace sim::wfp
