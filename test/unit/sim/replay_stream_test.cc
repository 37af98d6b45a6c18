// A captured TCP stream gives each byte once, in order.

#include <gtest/gtest.h>

#include <string>

#include "sources/stream_assembly.h"

namespace sim::sources
{
namespace
{

class ReplayStream : public testing::Test
{
  protected:
    void Add(uint32_t sequence, const std::string &bytes)
    {
        stream.Add(sequence, reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size(), sink);
    }

    StreamAssembly stream;
    std::string given;
    const StreamAssembly::Sink sink = [this](const uint8_t *bytes, size_t length)
    { given.append(reinterpret_cast<const char *>(bytes), length); };
};

TEST_F(ReplayStream, SegmentsInOrder)
{
    stream.Begin(100);
    Add(100, "abc");
    Add(103, "def");
    EXPECT_EQ(given, "abcdef");
    EXPECT_EQ(stream.gaps(), 0u);
}

TEST_F(ReplayStream, SegmentsOutOfOrder)
{
    stream.Begin(100);
    Add(106, "ghi");
    Add(103, "def");
    EXPECT_EQ(given, "");
    Add(100, "abc");
    EXPECT_EQ(given, "abcdefghi");
}

TEST_F(ReplayStream, RepeatedBytesAreGivenOnce)
{
    stream.Begin(100);
    Add(100, "abc");
    Add(100, "abc");
    Add(101, "bcde");
    Add(99, "xabcdef");
    EXPECT_EQ(given, "abcdef");
}

TEST_F(ReplayStream, WaitingSegmentsMayOverlap)
{
    stream.Begin(100);
    Add(103, "def");
    Add(102, "cdefgh");
    Add(103, "d");
    Add(100, "ab");
    EXPECT_EQ(given, "abcdefgh");
}

TEST_F(ReplayStream, KeepAliveProbesAreNotBytes)
{
    stream.Begin(100);
    Add(100, "abc");
    Add(102, "c");
    Add(102, "?");
    EXPECT_EQ(given, "abc");
}

TEST_F(ReplayStream, SequenceNumbersWrapAround)
{
    stream.Begin(0xFFFFFFFE);
    Add(2, "efg");
    Add(0xFFFFFFFE, "ab");
    Add(0, "cd");
    Add(0xFFFFFFFF, "bc");
    EXPECT_EQ(given, "abcdefg");
}

TEST_F(ReplayStream, AGapIsSkippedWhenLaterBytesAreAcknowledged)
{
    stream.Begin(100);
    Add(100, "abc");
    Add(110, "xyz");
    EXPECT_EQ(given, "abc");
    stream.Acknowledge(103, sink);
    EXPECT_EQ(given, "abc");
    stream.Acknowledge(113, sink);
    EXPECT_EQ(given, "abcxyz");
    EXPECT_EQ(stream.gaps(), 1u);
    EXPECT_EQ(stream.gap_bytes(), 7u);
    Add(103, "late");
    EXPECT_EQ(given, "abcxyz");
}

TEST_F(ReplayStream, SeveralGapsAreSkippedAtTheEnd)
{
    stream.Begin(100);
    Add(102, "c");
    Add(105, "f");
    stream.Finish(sink);
    EXPECT_EQ(given, "cf");
    EXPECT_EQ(stream.gaps(), 2u);
    EXPECT_EQ(stream.gap_bytes(), 4u);
}

TEST_F(ReplayStream, TheAcknowledgmentOfAFinIsNoGap)
{
    stream.Begin(100);
    Add(100, "abc");
    stream.SetEnd(103);
    stream.Acknowledge(104, sink);
    EXPECT_EQ(stream.gaps(), 0u);
}

TEST_F(ReplayStream, BeginsWithTheFirstSegmentOfALateCapture)
{
    Add(5000, "abc");
    Add(4000, "old");
    EXPECT_EQ(given, "abc");
}

TEST_F(ReplayStream, WaitingBytesAreBounded)
{
    stream.Begin(0);
    for (uint32_t i = 0; i < 5000; ++i)
    {
        Add(10 + 2 * i, "x");
    }
    EXPECT_GT(given.size(), 3000u);
    stream.Finish(sink);
    EXPECT_EQ(given.size(), 5000u);
}

} // namespace
} // namespace sim::sources
