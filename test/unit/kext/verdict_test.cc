// The table of verdicts against docs/behaviour.md: every verdict at every layer, in literals from that page.
#include <gtest/gtest.h>

#include "verdict.h"

namespace
{

struct Row
{
    uint8_t verdict;
    DECISION ale_outbound;
    DECISION ale_inbound;
    DECISION attempt; // of an extended client; kPermit: ale_outbound decides
    DECISION packet;
    DECISION resolve;
    bool times_out;
};

constexpr DECISION kPermit = DecisionPermit;
constexpr DECISION kBlock = DecisionBlock;
constexpr DECISION kAbsorb = DecisionAbsorb;
constexpr DECISION kRedirect = DecisionRedirect;
constexpr DECISION kAsk = DecisionAsk;

constexpr Row kRows[] = {
    {0, kAsk, kAsk, kPermit, kAsk, kAbsorb, false},               // Undecided
    {1, kBlock, kBlock, kPermit, kAbsorb, kAbsorb, false},        // Undeterminable
    {2, kPermit, kPermit, kPermit, kAsk, kPermit, true},          // Accept
    {3, kPermit, kPermit, kPermit, kPermit, kPermit, true},       // PermanentAccept
    {4, kPermit, kBlock, kBlock, kAsk, kAbsorb, true},            // Block
    {5, kBlock, kBlock, kPermit, kBlock, kAbsorb, true},          // PermanentBlock
    {6, kPermit, kAbsorb, kAbsorb, kAsk, kAbsorb, true},          // Drop
    {7, kAbsorb, kAbsorb, kPermit, kAbsorb, kAbsorb, true},       // PermanentDrop
    {8, kPermit, kPermit, kPermit, kRedirect, kRedirect, false},  // RedirectNameServer
    {9, kPermit, kPermit, kPermit, kRedirect, kRedirect, false},  // RedirectTunnel
    {10, kBlock, kBlock, kPermit, kAbsorb, kAbsorb, false},       // Failed
    {11, kPermit, kPermit, kPermit, kRedirect, kRedirect, false}, // RedirectSplitTunnel
};

void ExpectRow(const VERDICT_ROW &row, const Row &expected)
{
    EXPECT_EQ(row.Ale[DirectionOutbound], expected.ale_outbound);
    EXPECT_EQ(row.Ale[DirectionInbound], expected.ale_inbound);
    EXPECT_EQ(row.Attempt, expected.attempt);
    EXPECT_EQ(row.Packet, expected.packet);
    EXPECT_EQ(row.Resolve, expected.resolve);
    EXPECT_EQ(row.TimesOut != FALSE, expected.times_out);
}

TEST(VerdictTest, EveryVerdictMeansAtEachLayerWhatTheDocumentationSays)
{
    ASSERT_EQ(std::size(kRows), size_t{VerdictCount});
    for (const Row &expected : kRows)
    {
        SCOPED_TRACE("verdict " + std::to_string(expected.verdict));
        ExpectRow(*VerdictRow(expected.verdict), expected);
        EXPECT_EQ(VerdictPermits(expected.verdict) != FALSE, expected.resolve == kPermit);
        EXPECT_EQ(VerdictRedirects(expected.verdict) != FALSE, expected.resolve == kRedirect);
    }
}

TEST(VerdictTest, EachRedirectHasItsOwnPort)
{
    EXPECT_EQ(VerdictRow(8)->Port, OwnPortDns);
    EXPECT_EQ(VerdictRow(9)->Port, OwnPortTunnel);
    EXPECT_EQ(VerdictRow(11)->Port, OwnPortSplitTunnel);
}

TEST(VerdictTest, ANumberThatIsNoVerdictRefuses)
{
    for (int number : {12, 13, 127, 255})
    {
        SCOPED_TRACE(number);
        ExpectRow(*VerdictRow(static_cast<UINT8>(number)), kRows[VerdictFailed]);
    }
}

} // namespace
