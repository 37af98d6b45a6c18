// The controls of extension 2 that read the connection table and change a connection in it.
#include "support/driver_test.h"
#include "support/wire_records.h"

#include "nt/clock.h"
#include "nt/processes.h"

namespace kext_test
{
namespace
{

struct Entry
{
    uint8_t type = 0;
    CONNECTION_END_V4_WIRE end{}; // without its header
    CONNECTION_ENTRY_LIFE_WIRE life{};
};

struct Reply
{
    NTSTATUS status = 0;
    uint64_t next = 0;
    std::vector<Entry> entries; // of IPv4
};

class SnapshotTest : public DriverTest
{
  protected:
    void SetUp() override
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags = OPTION_FLAG_EXTENDED_RECORDS;
        ASSERT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    static ByteVector Request(uint64_t cursor)
    {
        const GET_CONNECTIONS_WIRE wire = {sizeof(wire), cursor};
        const auto *bytes = reinterpret_cast<const uint8_t *>(&wire);

        return ByteVector(bytes, bytes + sizeof(wire));
    }

    Reply Get(uint64_t cursor, size_t room = 1 << 16)
    {
        ByteVector out(room);
        Reply reply;

        reply.status = client_.Control(IOCTL_NETVERDICT_GET_CONNECTIONS, Request(cursor), &out).status;
        if (reply.status == STATUS_SUCCESS)
        {
            Parse(out, &reply);
        }
        return reply;
    }

    static void Parse(const ByteVector &out, Reply *reply)
    {
        CONNECTIONS_WIRE header{};
        size_t offset = sizeof(header);

        ASSERT_GE(out.size(), sizeof(header));
        std::memcpy(&header, out.data(), sizeof(header));
        reply->next = header.NextCursor;
        for (uint32_t i = 0; i < header.Count; i++)
        {
            Entry entry;
            const size_t length = sizeof(entry.end) - sizeof(entry.end.Header);

            entry.type = out.at(offset);
            ASSERT_EQ(entry.type, InfoConnectionEndV4);
            ASSERT_LE(offset + 1 + length + sizeof(entry.life), out.size());
            std::memcpy(&entry.end.ProcessId, out.data() + offset + 1, length);
            std::memcpy(&entry.life, out.data() + offset + 1 + length, sizeof(entry.life));
            reply->entries.push_back(entry);
            offset += 1 + length + sizeof(entry.life);
        }
        EXPECT_EQ(offset, out.size()) << "whole entries and nothing else";
    }

    static Flow WithPort(uint16_t port)
    {
        Flow flow;

        flow.local.port = port;
        return flow;
    }

    static ByteVector Update(const Flow &flow, uint8_t verdict)
    {
        COMMAND_UPDATE_V4_WIRE wire{};
        const auto *bytes = reinterpret_cast<const uint8_t *>(&wire);

        wire.Command = CommandUpdateV4;
        wire.Protocol = flow.protocol;
        std::copy_n(flow.local.address.begin(), 4, wire.LocalAddress);
        std::copy_n(flow.remote.address.begin(), 4, wire.RemoteAddress);
        wire.LocalPort = flow.local.port;
        wire.RemotePort = flow.remote.port;
        wire.Verdict = verdict;
        return ByteVector(bytes, bytes + sizeof(wire));
    }

    NTSTATUS UpdateConnection(const ByteVector &update, ByteVector *out)
    {
        return client_.Control(IOCTL_NETVERDICT_UPDATE_CONNECTION, update, out).status;
    }
};

// ---- GetConnections

TEST_F(SnapshotTest, AnEmptyTableIsAWholeReply)
{
    const Reply reply = Get(0);

    EXPECT_EQ(reply.status, STATUS_SUCCESS);
    EXPECT_EQ(reply.next, 0u);
    EXPECT_TRUE(reply.entries.empty());
}

TEST_F(SnapshotTest, AnEntryShowsTheConnectionAndItsLife)
{
    network_.Connect(Flow{});
    const Question question = client_.ReadQuestion();
    Reply reply = Get(0);
    ASSERT_EQ(reply.entries.size(), 1u);
    EXPECT_EQ(+reply.entries[0].end.ProcessId, Flow{}.process_id);
    EXPECT_EQ(+reply.entries[0].end.LocalPort, Flow{}.local.port);
    EXPECT_EQ(reply.entries[0].end.Protocol, PROTOCOL_TCP);
    EXPECT_EQ(+reply.entries[0].life.Id, question.id);
    EXPECT_EQ(reply.entries[0].life.Verdict, VerdictUndecided);
    EXPECT_EQ(reply.entries[0].life.Flags, CONNECTION_ENTRY_REPORTED | CONNECTION_ENTRY_WAITING);

    client_.Verdict(question.id, VerdictPermanentAccept);
    Advance(std::chrono::seconds(3));
    reply = Get(0);
    ASSERT_EQ(reply.entries.size(), 1u);
    EXPECT_EQ(+reply.entries[0].life.Id, 0u) << "nothing waits";
    EXPECT_EQ(+reply.entries[0].life.IdleMs, 3000u);
    EXPECT_EQ(reply.entries[0].life.Verdict, VerdictPermanentAccept);
    EXPECT_EQ(reply.entries[0].life.Flags, CONNECTION_ENTRY_REPORTED);

    network_.Close(Flow{});
    reply = Get(0);
    ASSERT_EQ(reply.entries.size(), 1u);
    EXPECT_EQ(reply.entries[0].life.Flags, CONNECTION_ENTRY_REPORTED | CONNECTION_ENTRY_ENDED);
}

TEST_F(SnapshotTest, AnEntryShowsTheStartOfItsProcessAndNotOfALaterOneWithTheSameId)
{
    const uint64_t start = machine_.clock().SystemTime();
    const auto shown = [this] { return Get(0).entries.at(0).life.ProcessStart; };

    network_.Connect(Flow{});
    EXPECT_EQ(shown(), 0u) << "no such process runs";
    machine_.processes().Start(Flow{}.process_id);
    EXPECT_EQ(shown(), start);
    machine_.processes().End(Flow{}.process_id);
    EXPECT_EQ(shown(), 0u);
    Advance(std::chrono::minutes(1));
    machine_.processes().Start(Flow{}.process_id);
    EXPECT_EQ(shown(), 0u);
}

TEST_F(SnapshotTest, TotalsAreNotResetByABandwidthReport)
{
    Decide(Flow{}, VerdictPermanentAccept);
    network_.Stream(Flow{}, false, 100);
    network_.Stream(Flow{}, true, 40);
    client_.Command(CommandGetBandwidthStats);
    network_.Stream(Flow{}, false, 1);

    const Reply reply = Get(0);
    ASSERT_EQ(reply.entries.size(), 1u);
    EXPECT_EQ(+reply.entries[0].life.TransmittedBytes, 101u);
    EXPECT_EQ(+reply.entries[0].life.ReceivedBytes, 40u);
}

TEST_F(SnapshotTest, ACursorGoesOnWhereTheLastReplyEnded)
{
    std::set<uint16_t> ports;
    uint64_t cursor = 0;

    for (uint16_t port = 1; port <= 500; port++)
    {
        network_.Connect(WithPort(port));
    }
    do
    {
        const Reply reply = Get(cursor, 12 + 97 * 40);

        ASSERT_EQ(reply.status, STATUS_SUCCESS);
        for (const Entry &entry : reply.entries)
        {
            EXPECT_TRUE(ports.insert(entry.end.LocalPort).second) << +entry.end.LocalPort;
        }
        cursor = reply.next;
    } while (cursor != 0);
    EXPECT_EQ(ports.size(), 500u);
}

TEST_F(SnapshotTest, RequestsThatAreCutOffAndBuffersThatAreTooSmallAreRefused)
{
    const uint32_t code = IOCTL_NETVERDICT_GET_CONNECTIONS;
    ByteVector out(1000);

    network_.Connect(Flow{});
    EXPECT_EQ(client_.Control(code, {}, &out).status, STATUS_INVALID_PARAMETER);
    EXPECT_EQ(client_.Control(code, {13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, &out).status, STATUS_INVALID_PARAMETER);
    EXPECT_EQ(client_.Control(code, {3, 0, 0, 0}, &out).status, STATUS_INVALID_PARAMETER);
    EXPECT_EQ(client_.Control(code, {4, 0, 0, 0}, &out).status, STATUS_SUCCESS) << "the cursor is 0 by default";
    EXPECT_EQ(Get(0, 11).status, STATUS_BUFFER_TOO_SMALL);
    EXPECT_EQ(Get(0, 12).status, STATUS_BUFFER_TOO_SMALL);
    EXPECT_EQ(Get(0, 12 + 96).status, STATUS_BUFFER_TOO_SMALL) << "an entry of IPv6 needs one byte more";
    EXPECT_EQ(Get(0, 12 + 97).entries.size(), 1u);
    EXPECT_EQ(Get(~0ULL).next, 0u) << "a place beyond the table";
}

// ---- UpdateConnection

TEST_F(SnapshotTest, AnUpdateToAPermanentBlockAbortsALiveTcpFlow)
{
    ByteVector out(1);

    Decide(Flow{}, VerdictPermanentAccept);
    network_.Establish(Flow{}, 77);
    EXPECT_EQ(UpdateConnection(Update(Flow{}, VerdictPermanentBlock), &out), STATUS_SUCCESS);
    EXPECT_EQ(network_.TakeAborted(), std::vector<uint64_t>{77});
}

TEST_F(SnapshotTest, AnUpdateSaysWhetherItsConnectionIsKnown)
{
    ByteVector out(1);

    Decide(Flow{}, VerdictPermanentAccept);
    EXPECT_EQ(UpdateConnection(Update(Flow{}, VerdictPermanentBlock), &out), STATUS_SUCCESS);
    EXPECT_EQ(out, ByteVector{1});
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{})).blocked());
    EXPECT_EQ(client_.GetStatistics().VerdictsApplied, 2u);

    out.assign(1, 7);
    EXPECT_EQ(UpdateConnection(Update(WithPort(9), VerdictPermanentBlock), &out), STATUS_SUCCESS);
    EXPECT_EQ(out, ByteVector{0});
    EXPECT_EQ(client_.GetStatistics().VerdictsUnknownId, 1u);
}

TEST_F(SnapshotTest, AnUpdateReauthorizes)
{
    ByteVector out(1);

    Decide(Flow{}, VerdictPermanentAccept);
    network_.TakeReauthorized();
    EXPECT_EQ(UpdateConnection(Update(Flow{}, VerdictPermanentBlock), &out), STATUS_SUCCESS);
    EXPECT_FALSE(network_.TakeReauthorized().empty());
}

TEST_F(SnapshotTest, OnlyOneWholeUpdateIsAccepted)
{
    const ByteVector update = Update(Flow{}, VerdictPermanentBlock);
    ByteVector longer = update;
    ByteVector wrong = update;
    ByteVector out(1);
    ByteVector none;

    longer.push_back(CommandShutdown);
    wrong.back() = VerdictCount;
    EXPECT_EQ(UpdateConnection({}, &out), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(UpdateConnection({CommandShutdown}, &out), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(UpdateConnection(ByteVector(update.begin(), update.end() - 1), &out), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(UpdateConnection(longer, &out), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(UpdateConnection(wrong, &out), STATUS_INVALID_PARAMETER);
    EXPECT_EQ(client_.GetStatistics().CommandsRejected, 5u);
    EXPECT_EQ(UpdateConnection(update, &none), STATUS_BUFFER_TOO_SMALL);
}

} // namespace
} // namespace kext_test
