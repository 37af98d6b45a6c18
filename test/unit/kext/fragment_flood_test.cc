// A flood of lone fragments fills the fragment table again each second. Nobody else notices.

#include "support/driver_test.h"

#include <gmock/gmock.h>

#include <chrono>

namespace kext_test
{
namespace
{

using std::chrono::milliseconds;
using testing::ElementsAreArray;
using testing::IsEmpty;

constexpr size_t kPiece = 24;
constexpr uint32_t kSteps = 16; // of a second

struct FloodCase
{
    const char *name;
    Flow victim;
    Flow stranger;
    bool fail_closed;
};

Flow OfStranger(Flow flow)
{
    flow.remote.address[0] ^= 1;
    return flow;
}

class FragmentFloodTest : public DriverTest, public testing::WithParamInterface<FloodCase>
{
  protected:
    FragmentFloodTest()
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.Flags = OPTION_FLAG_EXTENDED_RECORDS |
                        (GetParam().fail_closed ? static_cast<uint32_t>(OPTION_FLAG_FAIL_CLOSED) : 0);
        EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    static Flow Victim(uint16_t port)
    {
        Flow flow = GetParam().victim;

        flow.local.port = port;
        return flow;
    }

    // The pieces of a datagram of the victim's.
    static std::vector<ByteVector> Datagram(uint16_t port)
    {
        const ByteVector whole = MakePacket(Victim(port), false, Payload(4 * kPiece - 8));
        std::vector<ByteVector> pieces;

        for (size_t i = 0; i < 4; i++)
        {
            pieces.push_back(Fragment(whole, i * kPiece, kPiece, port));
        }
        return pieces;
    }

    // A step's share of a table full of lone fragments, none of which is permitted.
    void Flood()
    {
        const ByteVector whole = MakePacket(GetParam().stranger, true, Payload(3 * kPiece));

        for (uint32_t i = 0; i < FRAGMENT_MAX_DATAGRAMS / kSteps; i++)
        {
            ASSERT_TRUE(network_.Inbound(Fragment(whole, kPiece, kPiece, next_id_++)).absorbed());
        }
        Advance(milliseconds(1000 / kSteps));
        machine_.Run();
        EXPECT_LE(FragmentTableCount(&context()->Fragments), FRAGMENT_MAX_DATAGRAMS);
    }

    std::vector<ByteVector> TakeBytes()
    {
        std::vector<ByteVector> bytes;

        for (Injected &injected : network_.TakeInjected())
        {
            bytes.push_back(std::move(injected.bytes));
        }
        return bytes;
    }

    // Reads the records. Returns the one question among them; every other one is a loss of fragments.
    Question TakeQuestion()
    {
        Question question;
        size_t questions = 0;

        for (const Record &record : client_.Read())
        {
            if (IsQuestion(record))
            {
                question = ParseQuestion(record);
                questions++;
            }
            if (record.type == InfoEventsLost)
            {
                EXPECT_EQ(record.At<uint8_t>(8), LossFragmentLimit);
            }
        }
        EXPECT_EQ(questions, 1u);
        return question;
    }

    // A datagram whose second piece comes first. All of it waits for the verdict during two steps of the flood.
    void AskAboutDatagram(uint16_t port, uint8_t verdict, bool passes)
    {
        const std::vector<ByteVector> pieces = Datagram(port);

        for (const size_t i : {1u, 0u, 2u, 3u})
        {
            EXPECT_TRUE(network_.Outbound(pieces[i]).absorbed());
        }
        Flood();
        Flood();
        client_.Verdict(TakeQuestion().id, verdict);
        EXPECT_THAT(TakeBytes(), testing::UnorderedElementsAreArray(passes ? pieces : std::vector<ByteVector>()));
    }

    void AskAboutConnection(uint16_t port)
    {
        Flow flow = Victim(port);

        flow.protocol = PROTOCOL_TCP;
        flow.process_id = 4242;
        const Network::Answer connect = network_.Connect(flow);
        Flood();
        const Question question = TakeQuestion();
        EXPECT_EQ(question.process_id, 4242u);
        client_.Verdict(question.id, VerdictPermanentAccept);
        EXPECT_EQ(connect.completed(), 1);
    }

    uint32_t next_id_ = 0;
};

INSTANTIATE_TEST_SUITE_P(EachKind, FragmentFloodTest,
                         testing::Values(FloodCase{"V4Open", UdpV4(), OfStranger(UdpV4()), false},
                                         FloodCase{"V4Closed", UdpV4(), OfStranger(UdpV4()), true},
                                         FloodCase{"V6Open", UdpV6(), OfStranger(UdpV6()), false},
                                         FloodCase{"V6Closed", UdpV6(), OfStranger(UdpV6()), true}),
                         [](const testing::TestParamInfo<FloodCase> &info) { return info.param.name; });

TEST_P(FragmentFloodTest, OthersAreAskedAboutAndDecidedAndNoLoneFragmentIsPermitted)
{
    for (uint32_t i = 0; i < kSteps; i++)
    {
        Flood();
    }
    client_.Read();

    AskAboutDatagram(1001, VerdictPermanentAccept, true);
    AskAboutDatagram(1002, VerdictPermanentBlock, false);
    AskAboutConnection(1003);
    AskAboutConnection(1004);
    const std::vector<ByteVector> permitted = Datagram(1001);
    EXPECT_TRUE(network_.Outbound(Datagram(1002)[0]).blocked());
    EXPECT_TRUE(network_.Outbound(permitted[0]).permitted());
    Flood();
    EXPECT_TRUE(network_.Outbound(permitted[1]).permitted()) << "the decision is remembered";
    EXPECT_TRUE(network_.Outbound(Datagram(1002)[1]).blocked()) << "this one, too";
}

TEST_P(FragmentFloodTest, OverlapsAreFoundAndStayRefused)
{
    const std::vector<ByteVector> pieces = Datagram(1001);
    const ByteVector overlap = Fragment(MakePacket(Victim(1001), false, Payload(88)), 16, 24, 1001);

    network_.Outbound(pieces[0]);
    client_.Verdict(TakeQuestion().id, VerdictPermanentAccept);
    TakeBytes();
    EXPECT_TRUE(network_.Outbound(pieces[3]).permitted());
    for (uint32_t i = 0; i <= kSteps; i++)
    {
        Flood();
    }
    EXPECT_TRUE(network_.Outbound(overlap).blocked());
    Flood();
    EXPECT_TRUE(network_.Outbound(pieces[1]).blocked()) << "the overlap refuses the whole datagram";
    EXPECT_THAT(TakeBytes(), IsEmpty());
}

} // namespace
} // namespace kext_test
