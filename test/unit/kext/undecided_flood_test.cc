// Floods of connections that the client does not decide. The flooder is refused, and everybody else is asked about.

#include "support/driver_test.h"
#include "support/flood.h"

#include <string>
#include <vector>

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;

constexpr uint32_t kProcesses = 64;
constexpr uint32_t kPendingTimeoutMs = 30'000;

using Begin = Network::Answer (*)(Network &network, uint32_t n, bool v6);

Network::Answer OneProcess(Network &network, uint32_t n, bool v6)
{
    return network.Connect(Scan(n, v6));
}

Network::Answer OfProcess(Network &network, uint32_t n, bool v6, const std::u16string &image)
{
    Flow flow = Scan(n, v6);
    AleOptions options;

    flow.process_id = kFloodingProcess + n % kProcesses;
    options.process_path = image;
    return network.Connect(flow, nullptr, options);
}

Network::Answer ProcessesOfOneImage(Network &network, uint32_t n, bool v6)
{
    return OfProcess(network, n, v6, u"\\flood.exe");
}

Network::Answer ManyImages(Network &network, uint32_t n, bool v6)
{
    return OfProcess(network, n, v6, u"\\flood" + std::u16string(1 + n % kProcesses, u'x') + u".exe");
}

Network::Answer ManySenders(Network &network, uint32_t n, bool v6)
{
    const Flow flow = SpoofedSender(n, v6);
    const ByteVector packet = MakePacket(flow, true);

    network.Inbound(packet);
    return network.Accept(flow, &packet);
}

Network::Answer EchoRequests(Network &network, uint32_t n, bool v6)
{
    Flow flow = OneSocketToMany(n, v6);

    flow.protocol = v6 ? PROTOCOL_ICMPV6 : PROTOCOL_ICMP;

    const ByteVector packet = MakePacket(flow);

    return network.Connect(flow, &packet);
}

// The first fragment is missing, so nothing of it may pass.
Network::Answer LoneFragments(Network &network, uint32_t n, bool v6)
{
    return network.Inbound(Fragment(MakePacket(SpoofedSender(n, v6), true, Payload(64)), 32, 32, n));
}

Network::Answer Everything(Network &network, uint32_t n, bool v6)
{
    constexpr Begin kAll[] = {OneProcess, ProcessesOfOneImage, ManyImages, ManySenders, EchoRequests, LoneFragments};

    return kAll[n % std::size(kAll)](network, n, v6);
}

struct Shape
{
    const char *name;
    Begin begin;
    bool one_owner; // its next connection is refused
};

constexpr Shape kShapes[] = {
    {"OneProcess", OneProcess, true},     {"ProcessesOfOneImage", ProcessesOfOneImage, true},
    {"ManyImages", ManyImages, false},    {"ManySenders", ManySenders, false},
    {"EchoRequests", EchoRequests, true}, {"EverythingAtOnce", Everything, false},
};

struct Size
{
    uint32_t connections;
    uint32_t per_second;
    uint32_t max_held;
    uint32_t batch; // the client reads as often as this many connections have come
};

constexpr Size kSmall{1536, 512, 256, 64};
constexpr Size kFull{100'096, 50'000, OPTIONS_DEFAULT_MAX_HELD_PACKETS, 256};

struct Case
{
    Shape shape;
    Size size;
    bool v6;
    bool fail_closed;
};

std::vector<Case> Cases(const Size &size)
{
    std::vector<Case> cases;

    for (const Shape &shape : kShapes)
    {
        for (bool v6 : {false, true})
        {
            for (bool fail_closed : {false, true})
            {
                cases.push_back({shape, size, v6, fail_closed});
            }
        }
    }
    return cases;
}

std::string NameOf(const testing::TestParamInfo<Case> &info)
{
    return std::string(info.param.shape.name) + (info.param.v6 ? "V6" : "V4") +
           (info.param.fail_closed ? "FailClosed" : "FailOpen");
}

class UndecidedFloodTest : public DriverTest, public testing::WithParamInterface<Case>
{
  protected:
    UndecidedFloodTest() : answerer_(client_, VerdictPermanentAccept)
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.MaxHeldPackets = size().max_held;
        options.PendingTimeoutMs = kPendingTimeoutMs;
        options.TimeoutVerdict = VerdictBlock;
        options.Flags = OPTION_FLAG_EXTENDED_RECORDS | (GetParam().fail_closed ? OPTION_FLAG_FAIL_CLOSED : 0);
        EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
        machine_.Run();
        network_.TakeReauthorized();
    }

    const Size &size() const { return GetParam().size; }
    bool v6() const { return GetParam().v6; }

    // Another process connects. Its question comes soon, and its verdict is carried out.
    void ExpectBystander(uint32_t n)
    {
        const Flow flow = Bystander(n, v6());
        const Network::Answer answer = network_.Connect(flow);
        const Answerer::Reading reading = answerer_.AnswerOnly(flow.process_id);

        ASSERT_TRUE(answer.pended());
        ASSERT_TRUE(reading.before.has_value()) << "the question was lost";
        EXPECT_LT(*reading.before, 1000u);
        machine_.Run();
        EXPECT_EQ(answer.completed(), 1);
        network_.Close(flow);
    }

    void Flood()
    {
        for (uint32_t n = 0; n < size().connections; n++)
        {
            ASSERT_FALSE(GetParam().shape.begin(network_, n, v6()).permitted()) << n;
            if ((n + 1) % size().batch == 0)
            {
                ASSERT_NO_FATAL_FAILURE(ExpectBystander(n / size().batch));
                network_.TakeInjected();
            }
            if ((n + 1) % size().per_second == 0)
            {
                Advance(1s);
            }
        }
        EXPECT_LE(client_.GetStatistics().PacketsHeld, size().max_held);
    }

    void ExpectToKeepAsking()
    {
        ASSERT_NO_FATAL_FAILURE(Flood());
        // The first one takes the room that the bystander has left.
        GetParam().shape.begin(network_, size().connections, v6());
        if (GetParam().shape.one_owner)
        {
            EXPECT_TRUE(GetParam().shape.begin(network_, size().connections + 1, v6()).blocked());
        }

        Advance(60s);
        machine_.Run();
        answerer_.Answer();
        machine_.Run();
        EXPECT_EQ(client_.GetStatistics().PacketsHeld, 0u);
        EXPECT_TRUE(network_.Connect(Scan(size().connections + 2, v6())).pended());
        ExpectBystander(49'999); // none of the flood's
    }

  private:
    Answerer answerer_;
};

class UndecidedFloodLongTest : public UndecidedFloodTest
{
};

INSTANTIATE_TEST_SUITE_P(Each, UndecidedFloodTest, testing::ValuesIn(Cases(kSmall)), NameOf);
INSTANTIATE_TEST_SUITE_P(Each, UndecidedFloodLongTest, testing::ValuesIn(Cases(kFull)), NameOf);

TEST_P(UndecidedFloodTest, OtherProcessesAreAskedAboutAndDecidedAllTheTime)
{
    ExpectToKeepAsking();
}

TEST_P(UndecidedFloodLongTest, OtherProcessesAreAskedAboutAndDecidedAllTheTime)
{
    ExpectToKeepAsking();
}

} // namespace
} // namespace kext_test
