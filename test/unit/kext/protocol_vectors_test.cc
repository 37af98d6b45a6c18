// Compares the driver with the golden vectors that the library is tested with (test/protocol/vectors.txt).
// They hold the records that it encodes, and the commands and requests that it reads.
#include "event.h"
#include "options.h"

#include "kext_test.h"
#include "queue_device.h"
#include "support/wire_records.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

namespace
{

using kext_test::QueueDevice;
using ByteString = std::vector<uint8_t>;

ByteString ParseHex(const std::string &hex)
{
    ByteString bytes;

    for (size_t i = 0; hex != "-" && i < hex.size(); i += 2)
    {
        bytes.push_back(static_cast<uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
    }
    return bytes;
}

struct Vector
{
    std::string name;
    std::string kind;
    std::map<std::string, std::string> fields;
    ByteString bytes;

    bool Has(const std::string &field) const { return fields.count(field) != 0; }
    uint64_t Number(const std::string &field) const { return ParseNumber(fields.at(field)); }
    ByteString Hex(const std::string &field) const { return ParseHex(fields.at(field)); }

    static uint64_t ParseNumber(const std::string &text) { return std::stoull(text); }
};

std::ostream &operator<<(std::ostream &out, const Vector &vector)
{
    return out << vector.name;
}

Vector ParseLine(const std::string &line)
{
    const size_t arrow = line.find(" => ");
    std::istringstream description(line.substr(0, arrow));
    std::istringstream hex(line.substr(arrow + 4));
    std::string word;
    std::string digits;
    Vector vector;

    description >> vector.name >> vector.kind;
    while (description >> word)
    {
        const size_t equals = word.find('=');
        vector.fields[word.substr(0, equals)] = word.substr(equals + 1);
    }
    while (hex >> word)
    {
        digits += word;
    }
    vector.bytes = ParseHex(digits);
    return vector;
}

std::vector<Vector> ReadVectors(const std::vector<std::string> &kinds)
{
    std::ifstream file(SOURCE_ROOT "/test/protocol/vectors.txt");
    std::vector<Vector> vectors;
    std::string line;

    while (std::getline(file, line))
    {
        if (line.empty() || line[0] == '#')
        {
            continue;
        }
        const Vector vector = ParseLine(line);
        if (std::find(kinds.begin(), kinds.end(), vector.kind) != kinds.end())
        {
            vectors.push_back(vector);
        }
    }
    return vectors;
}

std::string NameOf(const testing::TestParamInfo<Vector> &info)
{
    std::string name = info.param.name;

    std::replace(name.begin(), name.end(), '-', '_');
    return name;
}

CONNECTION_KEY KeyOf(const Vector &vector)
{
    const ByteString local = vector.Hex("localAddress");
    const ByteString remote = vector.Hex("remoteAddress");
    CONNECTION_KEY key = {};

    std::copy(local.begin(), local.end(), key.LocalAddress);
    std::copy(remote.begin(), remote.end(), key.RemoteAddress);
    key.LocalPort = static_cast<UINT16>(vector.Number("localPort"));
    key.RemotePort = static_cast<UINT16>(vector.Number("remotePort"));
    key.Protocol = static_cast<UINT8>(vector.Number("protocol"));
    key.IpVersion = local.size() == 4 ? 4 : 6;
    return key;
}

template <typename Wire> Wire Overlay(const ByteString &bytes, size_t offset = 0)
{
    Wire wire = {};

    EXPECT_GE(bytes.size(), offset + sizeof(Wire));
    if (bytes.size() >= offset + sizeof(Wire))
    {
        memcpy(&wire, bytes.data() + offset, sizeof(Wire));
    }
    return wire;
}

template <size_t size> ByteString AddressOf(const UINT8 (&address)[size])
{
    return ByteString(address, address + size);
}

// Records that the driver encodes.
class EncodedVectors : public kext_test::KextTest, public testing::WithParamInterface<Vector>
{
  protected:
    EncodedVectors() : device_(std::make_unique<QueueDevice>(machine_, &memory_))
    {
        EventsInitialize(&events_, &memory_, device_->queue());
        IoQueueSetOptions(device_->queue(), OPTIONS_DEFAULT_MAX_QUEUED_BYTES, TRUE);
        EventsSetOptions(&events_, TRUE, 0xFFFFFFFF);
    }

    ~EncodedVectors() override
    {
        EventsUninitialize(&events_);
        device_.reset();
    }

    NTSTATUS Encode(const Vector &vector)
    {
        if (vector.kind == "ConnectionV4" || vector.kind == "ConnectionV6")
        {
            return EncodeConnection(vector);
        }
        if (vector.kind == "ConnectionEndV4" || vector.kind == "ConnectionEndV6")
        {
            return EncodeConnectionEnd(vector);
        }
        if (vector.kind == "LogLine")
        {
            const ByteString text = vector.Hex("text");
            return EventLogLine(&events_, static_cast<UINT8>(vector.Number("severity")),
                                reinterpret_cast<const CHAR *>(text.data()), static_cast<UINT32>(text.size()));
        }
        if (vector.kind == "ProcessInfo")
        {
            const ByteString path = vector.Hex("path");
            return EventProcessInfo(&events_, nullptr, vector.Number("processId"),
                                    reinterpret_cast<const WCHAR *>(path.data()), static_cast<UINT32>(path.size()));
        }
        if (vector.kind == "ReplyEnd")
        {
            const UINT8 command = static_cast<UINT8>(vector.Number("command"));

            return EventReplyEnd(&events_, command, vector.Number("sequence"));
        }
        if (vector.kind == "ClientStalled")
        {
            EventsSetOptions(&events_, 2, 0xFFFFFFFF);
            return EventClientStalled(&events_, vector.Number("count"), vector.Number("durationMs"));
        }
        return EncodeConnectionTimeout(vector);
    }

    NTSTATUS EncodeConnectionTimeout(const Vector &vector)
    {
        CONNECTION connection = {};
        UINT8 cause = TimeoutCauseTime;

        if (vector.Has("cause"))
        {
            EventsSetOptions(&events_, 2, 0xFFFFFFFF);
            cause = static_cast<UINT8>(vector.Number("cause"));
            connection = ConnectionOf(vector);
            connection.State.Verdict = static_cast<UINT8>(vector.Number("verdict"));
        }
        return EventConnectionTimeout(&events_, vector.Number("id"), &connection, cause);
    }

    NTSTATUS EncodeConnection(const Vector &vector)
    {
        const CONNECTION_KEY key = KeyOf(vector);
        const ByteString payload = vector.Hex("payload");

        return EventConnection(&events_, vector.Number("id"), &key, vector.Number("processId"),
                               static_cast<UINT8>(vector.Number("direction")),
                               static_cast<UINT8>(vector.Number("payloadLayer")), payload.data(),
                               static_cast<UINT32>(payload.size()), nullptr, nullptr);
    }

    static CONNECTION ConnectionOf(const Vector &vector)
    {
        CONNECTION connection = {};

        connection.Key = KeyOf(vector);
        connection.State.ProcessId = vector.Number("processId");
        connection.State.Direction = static_cast<UINT8>(vector.Number("direction"));
        return connection;
    }

    NTSTATUS EncodeConnectionEnd(const Vector &vector)
    {
        const CONNECTION connection = ConnectionOf(vector);

        return EventConnectionEnd(&events_, &connection, nullptr);
    }

    std::unique_ptr<QueueDevice> device_;
    EVENTS events_;
};

TEST_P(EncodedVectors, HaveTheirBytes)
{
    ASSERT_EQ(Encode(GetParam()), STATUS_SUCCESS);
    EXPECT_EQ(device_->ReadAll(1 << 20), GetParam().bytes);
}

INSTANTIATE_TEST_SUITE_P(Protocol, EncodedVectors,
                         testing::ValuesIn(ReadVectors({"LogLine", "ConnectionV4", "ConnectionV6", "ConnectionEndV4",
                                                        "ConnectionEndV6", "ReplyEnd", "ProcessInfo",
                                                        "ConnectionTimeout", "ClientStalled"})),
                         NameOf);

class LossVectors : public EncodedVectors
{
  protected:
    LossVectors()
    {
        // Extension 2 appends the process id.
        IoQueueSetOptions(device_->queue(), OPTIONS_DEFAULT_MAX_QUEUED_BYTES, GetParam().Has("processId") ? 2 : 1);
    }
};

TEST_P(LossVectors, HaveTheirBytesBeforeTheRecordThatFollowsTheLoss)
{
    const Vector &vector = GetParam();

    IoQueueReportLost(device_->queue(), vector.Number("count"), static_cast<UINT8>(vector.Number("reason")),
                      vector.Has("processId") ? vector.Number("processId") : 0);
    ASSERT_EQ(EventReplyEnd(&events_, CommandGetLogs, 1), STATUS_SUCCESS);
    ByteString stream = device_->ReadAll(1 << 20);
    ASSERT_EQ(stream.size(), vector.bytes.size() + sizeof(REPLY_END_WIRE));
    stream.resize(vector.bytes.size());
    EXPECT_EQ(stream, vector.bytes);
}

INSTANTIATE_TEST_SUITE_P(Protocol, LossVectors, testing::ValuesIn(ReadVectors({"EventsLost"})), NameOf);

// The driver writes the present time into these records, so their structures are compared.
TEST(LifeVectors, ConnectionInfoHasItsFields)
{
    for (const Vector &vector : ReadVectors({"ConnectionInfo"}))
    {
        const auto wire = Overlay<CONNECTION_INFO_WIRE>(vector.bytes);

        EXPECT_EQ(wire.Header.Type, InfoConnectionInfo);
        EXPECT_EQ(wire.Header.Length, vector.bytes.size() - sizeof(INFO_HEADER_WIRE));
        EXPECT_EQ(wire.Id, vector.Number("id"));
        EXPECT_EQ(wire.Time, vector.Number("time"));
        EXPECT_EQ(wire.ProcessStart, vector.Number("processStart"));
        EXPECT_EQ(wire.Flags, vector.Number("flags"));
        EXPECT_EQ(wire.InterfaceIndex, vector.Number("interfaceIndex"));
        EXPECT_EQ(wire.Compartment, vector.Number("compartment"));
    }
}

TEST(LifeVectors, ConnectionEndedHasItsFields)
{
    for (const Vector &vector : ReadVectors({"ConnectionEnded"}))
    {
        const auto wire = Overlay<CONNECTION_ENDED_WIRE>(vector.bytes);

        EXPECT_EQ(wire.Header.Type, InfoConnectionEnded);
        EXPECT_EQ(wire.Header.Length, vector.bytes.size() - sizeof(INFO_HEADER_WIRE));
        EXPECT_EQ(wire.Id, vector.Number("id"));
        EXPECT_EQ(wire.StartTime, vector.Number("startTime"));
        EXPECT_EQ(wire.EndTime, vector.Number("endTime"));
        EXPECT_EQ(wire.TransmittedBytes, vector.Number("transmitted"));
        EXPECT_EQ(wire.ReceivedBytes, vector.Number("received"));
        EXPECT_EQ(wire.Verdict, vector.Number("verdict"));
        EXPECT_EQ(wire.Reason, vector.Number("reason"));
    }
}

// Entries of a bandwidth record have no fixed order, so their structures are compared.
class BandwidthVectors : public testing::TestWithParam<Vector>
{
  protected:
    template <typename Entry> void ExpectEntries()
    {
        const Vector &vector = GetParam();
        std::istringstream entries(vector.fields.at("entries") == "-" ? "" : vector.fields.at("entries"));
        size_t offset = sizeof(BANDWIDTH_STATS_WIRE);
        std::string entry;

        while (std::getline(entries, entry, ','))
        {
            ExpectEntry(Overlay<Entry>(vector.bytes, offset), entry);
            offset += sizeof(Entry);
        }
        EXPECT_EQ(offset, vector.bytes.size());
    }

    template <typename Entry> void ExpectEntry(const Entry &wire, const std::string &entry)
    {
        std::istringstream fields(entry);
        std::vector<std::string> field;
        std::string text;

        while (std::getline(fields, text, '/'))
        {
            field.push_back(text);
        }
        ASSERT_EQ(field.size(), 6u);
        EXPECT_EQ(AddressOf(wire.LocalAddress), ParseHex(field[0]));
        EXPECT_EQ(wire.LocalPort, Vector::ParseNumber(field[1]));
        EXPECT_EQ(AddressOf(wire.RemoteAddress), ParseHex(field[2]));
        EXPECT_EQ(wire.RemotePort, Vector::ParseNumber(field[3]));
        EXPECT_EQ(wire.TransmittedBytes, Vector::ParseNumber(field[4]));
        EXPECT_EQ(wire.ReceivedBytes, Vector::ParseNumber(field[5]));
    }
};

TEST_P(BandwidthVectors, HaveTheirFields)
{
    const Vector &vector = GetParam();
    const auto wire = Overlay<BANDWIDTH_STATS_WIRE>(vector.bytes);
    const bool isV4 = vector.kind == "BandwidthStatsV4";

    EXPECT_EQ(wire.Header.Type, isV4 ? InfoBandwidthStatsV4 : InfoBandwidthStatsV6);
    EXPECT_EQ(wire.Header.Length, vector.bytes.size() - sizeof(INFO_HEADER_WIRE));
    EXPECT_EQ(wire.Protocol, vector.Number("protocol"));
    if (isV4)
    {
        ExpectEntries<BANDWIDTH_ENTRY_V4_WIRE>();
    }
    else
    {
        ExpectEntries<BANDWIDTH_ENTRY_V6_WIRE>();
    }
}

INSTANTIATE_TEST_SUITE_P(Protocol, BandwidthVectors,
                         testing::ValuesIn(ReadVectors({"BandwidthStatsV4", "BandwidthStatsV6"})), NameOf);

const std::map<std::string, COMMAND> Commands = {
    {"Shutdown", CommandShutdown},
    {"Verdict", CommandVerdict},
    {"UpdateV4", CommandUpdateV4},
    {"UpdateV6", CommandUpdateV6},
    {"ClearCache", CommandClearCache},
    {"GetLogs", CommandGetLogs},
    {"GetBandwidthStats", CommandGetBandwidthStats},
    {"PrintMemoryStats", CommandPrintMemoryStats},
    {"CleanEndedConnections", CommandCleanEndedConnections},
};

class CommandVectors : public testing::TestWithParam<Vector>
{
  protected:
    template <typename Wire> void ExpectUpdate()
    {
        const Vector &vector = GetParam();
        const auto wire = Overlay<Wire>(vector.bytes);

        EXPECT_EQ(vector.bytes.size(), sizeof(wire));
        EXPECT_EQ(wire.Protocol, vector.Number("protocol"));
        EXPECT_EQ(AddressOf(wire.LocalAddress), vector.Hex("localAddress"));
        EXPECT_EQ(wire.LocalPort, vector.Number("localPort"));
        EXPECT_EQ(AddressOf(wire.RemoteAddress), vector.Hex("remoteAddress"));
        EXPECT_EQ(wire.RemotePort, vector.Number("remotePort"));
        EXPECT_EQ(wire.Verdict, vector.Number("verdict"));
    }

    void ExpectVerdict()
    {
        const Vector &vector = GetParam();
        const auto wire = Overlay<COMMAND_VERDICT_WIRE>(vector.bytes);

        EXPECT_EQ(vector.bytes.size(), sizeof(wire));
        EXPECT_EQ(wire.Id, vector.Number("id"));
        EXPECT_EQ(wire.Verdict, vector.Number("verdict"));
    }
};

TEST_P(CommandVectors, HaveTheirFields)
{
    const Vector &vector = GetParam();

    EXPECT_EQ(vector.bytes.at(0), Commands.at(vector.kind));
    if (vector.kind == "Verdict")
    {
        ExpectVerdict();
    }
    else if (vector.kind == "UpdateV4")
    {
        ExpectUpdate<COMMAND_UPDATE_V4_WIRE>();
    }
    else if (vector.kind == "UpdateV6")
    {
        ExpectUpdate<COMMAND_UPDATE_V6_WIRE>();
    }
    else
    {
        EXPECT_EQ(vector.bytes.size(), 1u);
    }
}

INSTANTIATE_TEST_SUITE_P(Protocol, CommandVectors,
                         testing::ValuesIn(ReadVectors({"Shutdown", "Verdict", "UpdateV4", "UpdateV6", "ClearCache",
                                                        "GetLogs", "GetBandwidthStats", "PrintMemoryStats",
                                                        "CleanEndedConnections"})),
                         NameOf);

class OptionsVectors : public testing::TestWithParam<Vector>
{
};

TEST_P(OptionsVectors, ParseToTheirFields)
{
    const Vector &vector = GetParam();
    OPTIONS options;

    OptionsSetDefaults(&options);
    ASSERT_EQ(OptionsParse(vector.bytes.data(), vector.bytes.size(), &options), STATUS_SUCCESS);
    EXPECT_EQ(OptionsHas(&options, OPTION_FLAG_EXTENDED_RECORDS),
              (vector.Number("flags") & OPTION_FLAG_EXTENDED_RECORDS) != 0);
    EXPECT_EQ(OptionsHas(&options, OPTION_FLAG_FAIL_CLOSED), (vector.Number("flags") & OPTION_FLAG_FAIL_CLOSED) != 0);
    EXPECT_EQ(options.PayloadLimit, vector.Number("payloadLimit"));
    EXPECT_EQ(options.PendingTimeoutMs, vector.Number("pendingTimeoutMs"));
    EXPECT_EQ(options.TimeoutVerdict, vector.Number("timeoutVerdict"));
    EXPECT_EQ(options.LogLevel, vector.Number("logLevel"));
    EXPECT_EQ(options.DnsPort, vector.Number("dnsPort"));
    EXPECT_EQ(options.TunnelPort, vector.Number("tunnelPort"));
    EXPECT_EQ(options.SplitTunnelPort, vector.Number("splitTunnelPort"));
    EXPECT_EQ(options.MaxQueuedBytes, vector.Number("maxQueuedBytes"));
    EXPECT_EQ(options.MaxHeldPackets, vector.Number("maxHeldPackets"));
    EXPECT_EQ(options.Flags, vector.Number("flags"));
    if (vector.Has("stallTimeoutMs"))
    {
        EXPECT_EQ(options.StallTimeoutMs, vector.Number("stallTimeoutMs"));
        EXPECT_EQ(options.MaxConnections, vector.Number("maxConnections"));
    }
}

INSTANTIATE_TEST_SUITE_P(Protocol, OptionsVectors, testing::ValuesIn(ReadVectors({"Options"})), NameOf);

TEST(ReplyVectors, VersionHasItsFields)
{
    const Vector vector = ReadVectors({"Version"}).at(0);
    const auto wire = Overlay<VERSION_WIRE>(vector.bytes);

    EXPECT_EQ(wire.Major, vector.Number("major"));
    EXPECT_EQ(wire.Minor, vector.Number("minor"));
    EXPECT_EQ(wire.Revision, vector.Number("revision"));
    EXPECT_EQ(wire.Build, vector.Number("build"));
}

TEST(ReplyVectors, CapabilitiesHaveTheirFields)
{
    for (const Vector &vector : ReadVectors({"Capabilities"}))
    {
        const auto wire = Overlay<CAPABILITIES_WIRE>(vector.bytes);

        EXPECT_EQ(wire.StructSize, vector.bytes.size());
        EXPECT_EQ(wire.ProtocolExtension, vector.Number("protocolExtension"));
        EXPECT_EQ(wire.FeatureBits, vector.Number("featureBits"));
        EXPECT_EQ(wire.MaxCommandsPerWrite, vector.Number("maxCommandsPerWrite"));
    }
}

TEST(RequestVectors, GetConnectionsHasItsFields)
{
    const Vector vector = ReadVectors({"GetConnections"}).at(0);
    const auto wire = Overlay<GET_CONNECTIONS_WIRE>(vector.bytes);

    EXPECT_EQ(wire.StructSize, vector.bytes.size());
    EXPECT_EQ(wire.Cursor, vector.Number("cursor"));
}

// Compares an entry with its text: all fields in their order, between slashes. Returns its length.
template <typename End> size_t ExpectConnectionEntry(const ByteString &bytes, size_t offset, const std::string &text)
{
    const size_t endLength = sizeof(End) - sizeof(INFO_HEADER_WIRE);
    const auto end = Overlay<End>(bytes, offset + 1 - sizeof(INFO_HEADER_WIRE));
    const auto life = Overlay<CONNECTION_ENTRY_LIFE_WIRE>(bytes, offset + 1 + endLength);
    std::ostringstream found;
    const auto hex = [&](const UINT8 *address)
    {
        for (size_t i = 0; i < sizeof(end.LocalAddress); i++)
        {
            found << std::hex << (address[i] >> 4) << (address[i] & 15) << std::dec;
        }
        found << '/';
    };

    found << +bytes.at(offset) << '/' << end.ProcessId << '/' << +end.Direction << '/' << +end.Protocol << '/';
    hex(end.LocalAddress);
    hex(end.RemoteAddress);
    found << end.LocalPort << '/' << end.RemotePort << '/' << life.Id << '/' << life.ProcessStart << '/'
          << life.StartTime << '/' << life.IdleMs << '/' << life.TransmittedBytes << '/' << life.ReceivedBytes << '/'
          << +life.Verdict << '/' << +life.Flags;
    EXPECT_EQ(found.str(), text);
    return 1 + endLength + sizeof(life);
}

TEST(ReplyVectors, ConnectionsHaveTheirFields)
{
    for (const Vector &vector : ReadVectors({"Connections"}))
    {
        const auto header = Overlay<CONNECTIONS_WIRE>(vector.bytes);
        std::istringstream entries(vector.fields.at("entries") == "-" ? "" : vector.fields.at("entries"));
        size_t offset = sizeof(header);
        UINT32 count = 0;
        std::string entry;

        EXPECT_EQ(header.NextCursor, vector.Number("nextCursor"));
        for (; std::getline(entries, entry, ','); count++)
        {
            offset += vector.bytes.at(offset) == InfoConnectionEndV4
                          ? ExpectConnectionEntry<CONNECTION_END_V4_WIRE>(vector.bytes, offset, entry)
                          : ExpectConnectionEntry<CONNECTION_END_V6_WIRE>(vector.bytes, offset, entry);
        }
        EXPECT_EQ(header.Count, count);
        EXPECT_EQ(offset, vector.bytes.size());
    }
}

TEST(ReplyVectors, StatisticsHaveTheirFields)
{
    const Vector vector = ReadVectors({"Statistics"}).at(0);
    const auto wire = Overlay<STATISTICS_FIELDS_WIRE>(vector.bytes);

    EXPECT_EQ(wire.StructSize, vector.bytes.size());
    EXPECT_EQ(wire.EventsQueued, vector.Number("eventsQueued"));
    EXPECT_EQ(wire.EventsDelivered, vector.Number("eventsDelivered"));
    EXPECT_EQ(wire.EventsLost, vector.Number("eventsLost"));
    EXPECT_EQ(wire.BytesDelivered, vector.Number("bytesDelivered"));
    EXPECT_EQ(wire.ReadsCompleted, vector.Number("readsCompleted"));
    EXPECT_EQ(wire.VerdictsApplied, vector.Number("verdictsApplied"));
    EXPECT_EQ(wire.VerdictsUnknownId, vector.Number("verdictsUnknownId"));
    EXPECT_EQ(wire.CommandsRejected, vector.Number("commandsRejected"));
    EXPECT_EQ(wire.PacketsHeld, vector.Number("packetsHeld"));
    EXPECT_EQ(wire.Connections, vector.Number("connections"));
    EXPECT_EQ(wire.BandwidthEntries, vector.Number("bandwidthEntries"));
    EXPECT_EQ(wire.PoolBytes, vector.Number("poolBytes"));
    EXPECT_EQ(wire.PoolBytesPeak, vector.Number("poolBytesPeak"));
    EXPECT_EQ(wire.PacketsPermitted, vector.Number("packetsPermitted"));
    EXPECT_EQ(wire.PacketsBlocked, vector.Number("packetsBlocked"));
    EXPECT_EQ(wire.PacketsInjected, vector.Number("packetsInjected"));
    EXPECT_EQ(wire.InjectFailures, vector.Number("injectFailures"));
    EXPECT_EQ(wire.PacketsRedirected, vector.Number("packetsRedirected"));
    EXPECT_EQ(wire.FragmentsBlocked, vector.Number("fragmentsBlocked"));
    EXPECT_EQ(wire.MalformedPackets, vector.Number("malformedPackets"));
    EXPECT_EQ(wire.EngineRetries, vector.Number("engineRetries"));
    EXPECT_EQ(wire.EngineState, vector.Number("engineState"));
}

} // namespace
