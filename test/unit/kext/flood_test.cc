// Floods over the limit of the connection table. The firewall keeps deciding for everybody else.

#include "support/driver_test.h"
#include "support/flood.h"

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;

struct Size
{
    uint32_t connections; // of the flood
    uint32_t per_second;
    uint32_t max_connections; // of the table
};

struct Shape
{
    const char *name;
    Flow (*flow)(uint32_t n, bool v6);
    bool inbound;
};

constexpr Shape kOneSocket{"OneSocketToMany", OneSocketToMany, false};
constexpr Shape kScan{"Scan", Scan, false};
constexpr Shape kSpoofed{"SpoofedSenders", SpoofedSender, true};

struct Case
{
    Shape shape;
    Size size;
    bool v6;
    bool fail_closed;
};

// Small tables take small floods.
std::vector<Case> SmallCases()
{
    std::vector<Case> cases;

    for (const Shape &shape : {kOneSocket, kScan, kSpoofed})
    {
        for (bool v6 : {false, true})
        {
            for (bool fail_closed : {false, true})
            {
                cases.push_back({shape, {5120, 1024, 4096}, v6, fail_closed});
            }
        }
    }
    return cases;
}

// A million destinations or senders, and a scan of a minute, against the default limit.
std::vector<Case> FullCases()
{
    std::vector<Case> cases;

    for (bool v6 : {false, true})
    {
        cases.push_back({kOneSocket, {1'000'000, 50'000, 1 << 20}, v6, v6});
        cases.push_back({kScan, {3'000'000, 50'000, 1 << 20}, v6, v6});
        cases.push_back({kSpoofed, {1 << 20, 50'000, 1 << 20}, v6, v6});
    }
    return cases;
}

std::string NameOf(const testing::TestParamInfo<Case> &info)
{
    return std::string(info.param.shape.name) + (info.param.v6 ? "V6" : "V4") +
           (info.param.fail_closed ? "FailClosed" : "FailOpen");
}

class FloodTest : public DriverTest, public testing::WithParamInterface<Case>
{
  protected:
    // The client reads as often as this many connections have come.
    static constexpr uint32_t kBatch = 256;
    static constexpr uint32_t kIdle = 1000;
    static constexpr uint32_t kIdleNetworks = 100;

    FloodTest() : answerer_(client_, VerdictPermanentAccept)
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.MaxConnections = size().max_connections;
        options.Flags = OPTION_FLAG_EXTENDED_RECORDS | (GetParam().fail_closed ? OPTION_FLAG_FAIL_CLOSED : 0);
        EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
        machine_.Run();
        network_.TakeReauthorized();
    }

    const Size &size() const { return GetParam().size; }
    bool v6() const { return GetParam().v6; }

    // An idle client of the flooded server: connection `n` of kIdle, from one of kIdleNetworks.
    Flow Idle(uint32_t n) const
    {
        Flow flow = SpoofedSender(n, v6());

        flow.remote = v6() ? V6(static_cast<uint8_t>(n / kIdleNetworks), 50'000)
                           : V4(203, 0, static_cast<uint8_t>(n % kIdleNetworks),
                                static_cast<uint8_t>(1 + n / kIdleNetworks), 50'000);
        if (v6())
        {
            flow.remote.address[5] = static_cast<uint8_t>(128 + n % kIdleNetworks);
        }
        return flow;
    }

    // The connection is in the scope of the network's compartment, whatever its number.
    bool HasVerdict(const Flow &flow, uint8_t verdict)
    {
        CONNECTION_KEY key = KeyOf(flow);
        CONNECTION copy;

        for (key.Scope = 0; key.Scope < 8; key.Scope++)
        {
            if (ConnectionTableCopyLive(&context()->Connections, &key, &copy))
            {
                return copy.State.Verdict == verdict;
            }
        }
        return false;
    }

    static CONNECTION_KEY KeyOf(const Flow &flow)
    {
        CONNECTION_KEY key = {};

        key.IpVersion = flow.family();
        key.Protocol = flow.protocol;
        memcpy(key.LocalAddress, flow.local.address.data(), flow.family() == 6 ? 16 : 4);
        memcpy(key.RemoteAddress, flow.remote.address.data(), flow.family() == 6 ? 16 : 4);
        key.LocalPort = flow.local.port;
        key.RemotePort = flow.remote.port;
        return key;
    }

    // A connection of the flood begins, as the stack shows it.
    void Begin(const Flow &flow)
    {
        const ByteVector packet = MakePacket(flow, GetParam().shape.inbound);

        if (GetParam().shape.inbound)
        {
            network_.Inbound(packet);
            network_.Accept(flow, &packet);
        }
        else
        {
            network_.Connect(flow, flow.protocol == PROTOCOL_TCP ? nullptr : &packet);
        }
    }

    // The server's idle connections come up: two packets each way.
    void BeginIdle()
    {
        for (uint32_t n = 0; n < kIdle; n++)
        {
            const Flow flow = Idle(n);
            const ByteVector packet = MakePacket(flow, true);

            EXPECT_TRUE(network_.Accept(flow, &packet).pended());
        }
        answerer_.Answer();
        network_.TakeInjected();
        for (uint32_t n = 0; n < kIdle; n++)
        {
            const Flow flow = Idle(n);

            for (unsigned i = 0; i < 2; i++)
            {
                EXPECT_TRUE(network_.Inbound(MakePacket(flow, true)).permitted());
                EXPECT_TRUE(network_.Outbound(MakePacket(flow)).permitted());
            }
        }
        Advance(2s);
    }

    void ExpectIdle()
    {
        unsigned kept = 0;

        for (uint32_t n = 0; n < kIdle; n++)
        {
            kept += HasVerdict(Idle(n), VerdictPermanentAccept) ? 1 : 0;
        }
        EXPECT_EQ(kept, kIdle) << "idle connections of the server, with their verdicts";
    }

    // Another process connects. Its question comes soon, and its verdict is carried out.
    void ExpectBystander(uint32_t n)
    {
        const Flow flow = Bystander(n, v6());
        const Network::Answer answer = network_.Connect(flow);
        const Answerer::Reading reading = answerer_.Answer(flow.process_id);

        ASSERT_TRUE(answer.pended());
        ASSERT_TRUE(reading.before.has_value()) << "the question was lost";
        EXPECT_LT(*reading.before, 1000u);
        machine_.Run();
        EXPECT_EQ(answer.completed(), 1);
        EXPECT_TRUE(HasVerdict(flow, VerdictPermanentAccept));
        EXPECT_TRUE(network_.Connect(flow, nullptr, Reauthorized()).permitted());
    }

    static AleOptions Reauthorized()
    {
        AleOptions options;

        options.reauthorize = true;
        return options;
    }

    void Flood()
    {
        for (uint32_t n = 0; n < size().connections; n++)
        {
            Begin(GetParam().shape.flow(n, v6()));
            if ((n + 1) % kBatch == 0)
            {
                ExpectBystander(n / kBatch);
                network_.TakeInjected();
            }
            if ((n + 1) % size().per_second == 0)
            {
                Advance(1s);
            }
            ASSERT_LE(ConnectionTableCount(&context()->Connections), size().max_connections);
        }
    }

    // Bytes that docs/limits.md gives for a table of this limit.
    uint64_t DocumentedBytes() const
    {
        return CONNECTION_TABLE_FIXED_BYTES +
               uint64_t{size().max_connections} *
                   (v6() ? CONNECTION_TABLE_MOST_BYTES_V6 : CONNECTION_TABLE_MOST_BYTES_V4);
    }

    void ExpectToKeepDeciding()
    {
        BeginIdle();
        Flood();
        answerer_.Answer(); // the questions since the last read
        ExpectIdle();
        EXPECT_GT(answerer_.ends(), 0u) << "what is evicted alive is reported as ended";
        EXPECT_EQ(client_.GetStatistics().EventsLost, 0u);
        EXPECT_LE(ConnectionTableBytes(&context()->Connections), DocumentedBytes());

        Advance(60s);
        machine_.Run();
        EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
        ExpectBystander(49'999); // none of the flood's
        ExpectIdle();
    }

  private:
    Answerer answerer_;
};

class FloodLongTest : public FloodTest
{
};

INSTANTIATE_TEST_SUITE_P(Each, FloodTest, testing::ValuesIn(SmallCases()), NameOf);
INSTANTIATE_TEST_SUITE_P(Each, FloodLongTest, testing::ValuesIn(FullCases()), NameOf);

TEST_P(FloodTest, OtherProcessesAreAskedAboutAndDecidedAllTheTime)
{
    ExpectToKeepDeciding();
}

TEST_P(FloodLongTest, OtherProcessesAreAskedAboutAndDecidedAllTheTime)
{
    ExpectToKeepDeciding();
}

} // namespace
} // namespace kext_test
