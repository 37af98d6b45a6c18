#include "sources/link_layer.h"

#include "byte_order.h"

#include <algorithm>

namespace sim::sources
{
namespace
{

// LINKTYPE_ values.
constexpr uint16_t kNull = 0;
constexpr uint16_t kEthernet = 1;
constexpr uint16_t kRawBsd = 12;
constexpr uint16_t kRawOpenBsd = 14;
constexpr uint16_t kRaw = 101;
constexpr uint16_t kLoop = 108;
constexpr uint16_t kLinuxCooked = 113;
constexpr uint16_t kIpv4 = 228;
constexpr uint16_t kIpv6 = 229;
constexpr uint16_t kLinuxCooked2 = 276;

constexpr uint16_t kTypeIpv4 = 0x0800;
constexpr uint16_t kTypeIpv6 = 0x86DD;
constexpr uint16_t kTypeVlan = 0x8100;
constexpr uint16_t kTypeServiceVlan = 0x88A8;
constexpr uint16_t kTypeOldServiceVlan = 0x9100;
constexpr uint16_t kSmallestType = 0x0600; // a smaller number is a length

constexpr size_t kEthernetHeader = 14;
constexpr size_t kVlanTag = 4;
constexpr size_t kSnapHeader = 8;
constexpr size_t kFamilyHeader = 4;
constexpr size_t kCookedHeader = 16;
constexpr size_t kCooked2Header = 20;

constexpr uint8_t kToHost = 0; // packet types of the cooked headers
constexpr uint8_t kOutgoing = 4;

class Decoder
{
  public:
    Decoder(const uint8_t *data, size_t captured, size_t original)
        : data_(data), captured_(captured), original_(original)
    {
    }

    LinkFrame Decode(uint16_t link_type)
    {
        switch (link_type)
        {
        case kEthernet:
            return Ethernet();
        case kNull:
        case kLoop:
            return Family();
        case kRawBsd:
        case kRawOpenBsd:
        case kRaw:
        case kIpv4:
        case kIpv6:
            return Packet(0);
        case kLinuxCooked:
            return Cooked();
        case kLinuxCooked2:
            return Cooked2();
        default:
            return Result(FrameKind::kUnknownLink);
        }
    }

  private:
    LinkFrame Result(FrameKind kind)
    {
        frame_.kind = kind;
        return frame_;
    }

    LinkFrame Packet(size_t offset)
    {
        if (offset >= captured_)
        {
            return Result(FrameKind::kMalformed);
        }
        frame_.packet = data_ + offset;
        frame_.captured_length = captured_ - offset;
        frame_.original_length = original_ - offset;
        return Result(FrameKind::kIp);
    }

    // Decodes what follows an Ethernet type. VLAN tags may come first.
    LinkFrame Typed(uint16_t type, size_t offset)
    {
        while (type == kTypeVlan || type == kTypeServiceVlan || type == kTypeOldServiceVlan)
        {
            if (captured_ < offset + kVlanTag)
            {
                return Result(FrameKind::kMalformed);
            }
            type = LoadBig16(data_ + offset + 2);
            offset += kVlanTag;
        }
        if (type < kSmallestType && captured_ >= offset + kSnapHeader && data_[offset] == 0xAA &&
            data_[offset + 1] == 0xAA)
        {
            type = LoadBig16(data_ + offset + 6);
            offset += kSnapHeader;
        }
        return type == kTypeIpv4 || type == kTypeIpv6 ? Packet(offset) : Result(FrameKind::kOther);
    }

    LinkFrame Ethernet()
    {
        if (captured_ < kEthernetHeader)
        {
            return Result(FrameKind::kMalformed);
        }
        std::copy_n(data_, 6, frame_.destination.begin());
        std::copy_n(data_ + 6, 6, frame_.source.begin());
        frame_.has_hardware = true;
        return Typed(LoadBig16(data_ + 12), kEthernetHeader);
    }

    // The header is an address family in the byte order of the machine that captured. AF_INET6 differs by system.
    LinkFrame Family()
    {
        constexpr uint8_t kInet = 2;

        if (captured_ <= kFamilyHeader)
        {
            return Result(FrameKind::kMalformed);
        }

        const uint8_t family = std::max(data_[0], data_[3]);
        const bool inet6 = family == 10 || family == 23 || family == 24 || family == 28 || family == 30;

        return family == kInet || inet6 ? Packet(kFamilyHeader) : Result(FrameKind::kOther);
    }

    void SetType(uint8_t type)
    {
        frame_.outgoing = type == kOutgoing;
        frame_.incoming = type == kToHost;
    }

    LinkFrame Cooked()
    {
        if (captured_ < kCookedHeader)
        {
            return Result(FrameKind::kMalformed);
        }
        SetType(data_[1]);
        return Typed(LoadBig16(data_ + 14), kCookedHeader);
    }

    LinkFrame Cooked2()
    {
        if (captured_ < kCooked2Header)
        {
            return Result(FrameKind::kMalformed);
        }
        SetType(data_[10]);
        return Typed(LoadBig16(data_), kCooked2Header);
    }

    const uint8_t *data_;
    size_t captured_;
    size_t original_;
    LinkFrame frame_;
};

} // namespace

LinkFrame DecodeLink(uint16_t link_type, const uint8_t *data, size_t captured, size_t original)
{
    return Decoder(data, captured, original).Decode(link_type);
}

} // namespace sim::sources
