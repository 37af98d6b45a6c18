#include "support/record_text.h"

#include "support/address_text.h"
#include "support/wire_records.h"

#include <algorithm>

namespace kext_test
{

namespace
{

std::string Hex(const uint8_t *bytes, size_t length)
{
    constexpr char kDigits[] = "0123456789abcdef";
    std::string text;

    for (size_t i = 0; i < length; i++)
    {
        text += kDigits[bytes[i] >> 4];
        text += kDigits[bytes[i] & 0xF];
    }
    return text;
}

template <size_t length> std::string EndText(const uint8_t (&address)[length], uint16_t port)
{
    return AddressText(address, length) + " port " + std::to_string(port);
}

template <typename Wire> std::string EndsText(const Wire &wire)
{
    return " local " + EndText(wire.LocalAddress, wire.LocalPort) + ", remote " +
           EndText(wire.RemoteAddress, wire.RemotePort);
}

// Returns the record's structure. A body that is too short leaves the rest of it zero.
template <typename Wire> Wire WireOf(const Record &record)
{
    Wire wire{};
    auto *bytes = reinterpret_cast<uint8_t *>(&wire) + sizeof(INFO_HEADER_WIRE);

    std::memcpy(bytes, record.body.data(), std::min(record.body.size(), sizeof(wire) - sizeof(INFO_HEADER_WIRE)));
    return wire;
}

template <typename Wire> std::string ConnectionText(const char *name, const Record &record)
{
    const auto wire = WireOf<Wire>(record);
    const size_t start = std::min(record.body.size(), sizeof(wire) - sizeof(INFO_HEADER_WIRE));

    return std::string(name) + ": id " + std::to_string(wire.Id) + ", process " + std::to_string(wire.ProcessId) +
           ", direction " + std::to_string(wire.Direction) + ", protocol " + std::to_string(wire.Protocol) + "," +
           EndsText(wire) + ", layer " + std::to_string(wire.PayloadLayer) + ", " + std::to_string(wire.PayloadLength) +
           " bytes " + Hex(record.body.data() + start, record.body.size() - start);
}

template <typename Wire> std::string EndText(const char *name, const Record &record)
{
    const auto wire = WireOf<Wire>(record);

    return std::string(name) + ": process " + std::to_string(wire.ProcessId) + ", direction " +
           std::to_string(wire.Direction) + ", protocol " + std::to_string(wire.Protocol) + "," + EndsText(wire);
}

template <typename Entry> std::string BandwidthText(const char *name, const Record &record)
{
    constexpr size_t kStart = sizeof(BANDWIDTH_STATS_WIRE) - sizeof(INFO_HEADER_WIRE);
    const auto wire = WireOf<BANDWIDTH_STATS_WIRE>(record);
    std::string text = std::string(name) + ": protocol " + std::to_string(wire.Protocol) + ", " +
                       std::to_string(wire.Count) + " entries";

    for (size_t at = kStart; at + sizeof(Entry) <= record.body.size(); at += sizeof(Entry))
    {
        const auto entry = record.At<Entry>(at);

        text += ";" + EndsText(entry) + ", transmitted " + std::to_string(entry.TransmittedBytes) + ", received " +
                std::to_string(entry.ReceivedBytes);
    }
    return text;
}

} // namespace

std::string TextOf(const Record &record)
{
    switch (record.type)
    {
    case InfoConnectionV4:
        return ConnectionText<CONNECTION_V4_WIRE>("ConnectionV4", record);
    case InfoConnectionV6:
        return ConnectionText<CONNECTION_V6_WIRE>("ConnectionV6", record);
    case InfoConnectionEndV4:
        return EndText<CONNECTION_END_V4_WIRE>("ConnectionEndV4", record);
    case InfoConnectionEndV6:
        return EndText<CONNECTION_END_V6_WIRE>("ConnectionEndV6", record);
    case InfoBandwidthStatsV4:
        return BandwidthText<BANDWIDTH_ENTRY_V4_WIRE>("BandwidthStatsV4", record);
    case InfoBandwidthStatsV6:
        return BandwidthText<BANDWIDTH_ENTRY_V6_WIRE>("BandwidthStatsV6", record);
    default:
        return "type " + std::to_string(record.type) + ": " + Hex(record.body.data(), record.body.size());
    }
}

} // namespace kext_test
