#include "injection_tracker.h"

#include "kext_test.h"

namespace
{

using namespace std::chrono_literals;
using kext_test::Bytes;

class InjectionTrackerTest : public kext_test::KextTest
{
  protected:
    InjectionTrackerTest()
    {
        InjectionTrackerInitialize(&tracker_, &memory_, &clock_);
        InjectionTrackerEnable(&tracker_);
    }

    ~InjectionTrackerTest() override { InjectionTrackerUninitialize(&tracker_); }

    void Add(const std::string &packet) { InjectionTrackerAdd(&tracker_, Bytes(packet).data(), Length(packet)); }
    bool Take(const std::string &packet)
    {
        return InjectionTrackerTake(&tracker_, Bytes(packet).data(), Length(packet));
    }

    static uint32_t Length(const std::string &packet) { return static_cast<uint32_t>(packet.size()); }

    INJECTION_TRACKER tracker_;
};

TEST_F(InjectionTrackerTest, TakesAnInjectedPacketOnce)
{
    Add("one");
    Add("two");
    EXPECT_FALSE(Take("three"));
    EXPECT_TRUE(Take("two"));
    EXPECT_FALSE(Take("two"));
    EXPECT_TRUE(Take("one"));
}

TEST_F(InjectionTrackerTest, RemembersNothingUntilAnotherProductIsSeen)
{
    InjectionTrackerUninitialize(&tracker_);
    EXPECT_EQ(InjectionTrackerBytes(&tracker_), 0u);
    Add("one");
    EXPECT_FALSE(Take("one"));
    InjectionTrackerEnable(&tracker_);
    EXPECT_FALSE(Take("one"));
    Add("one");
    EXPECT_TRUE(Take("one"));
}

TEST_F(InjectionTrackerTest, ForgetsAfterTenSeconds)
{
    Add("one");
    Advance(9s);
    Add("two");
    Advance(1s);
    EXPECT_FALSE(Take("one"));
    EXPECT_TRUE(Take("two"));
}

TEST_F(InjectionTrackerTest, FindsThousandsThatAreOnTheirWayAtOnce)
{
    constexpr unsigned kOnTheirWay = 5000;

    for (unsigned i = 0; i < kOnTheirWay; i++)
    {
        Add(std::to_string(i));
    }
    EXPECT_EQ(InjectionTrackerCount(&tracker_), kOnTheirWay);
    for (unsigned i = 0; i < kOnTheirWay; i++)
    {
        EXPECT_TRUE(Take(std::to_string(i))) << i;
    }
    EXPECT_EQ(InjectionTrackerCount(&tracker_), 0u);
}

TEST_F(InjectionTrackerTest, WhenItIsFullTheNewestAreFound)
{
    constexpr unsigned kMany = 200'000;
    unsigned found = 0;

    for (unsigned i = 0; i < kMany; i++)
    {
        Add(std::to_string(i));
        Advance(1us);
    }
    for (unsigned i = kMany - 5000; i < kMany; i++)
    {
        EXPECT_TRUE(Take(std::to_string(i))) << i;
        found++;
    }
    for (unsigned i = 0; i < kMany; i++)
    {
        found += Take(std::to_string(i)) ? 1 : 0;
    }
    EXPECT_EQ(found, INJECTION_TRACKER_SETS * INJECTION_TRACKER_PAIRS_PER_SET);
}

TEST_F(InjectionTrackerTest, TakesEachOfEqualPacketsOnce)
{
    Add("one");
    Add("one");
    EXPECT_TRUE(Take("one"));
    EXPECT_TRUE(Take("one"));
    EXPECT_FALSE(Take("one"));
}

TEST_F(InjectionTrackerTest, TriesAgainAfterAFailedAllocation)
{
    InjectionTrackerUninitialize(&tracker_);
    machine_.faults().FailAll();
    InjectionTrackerEnable(&tracker_);
    machine_.faults().Stop();
    Add("one");
    EXPECT_FALSE(Take("one"));

    InjectionTrackerEnable(&tracker_);
    Add("one");
    InjectionTrackerEnable(&tracker_);
    EXPECT_TRUE(Take("one")) << "enabled once more it keeps what it has";
    EXPECT_GT(InjectionTrackerBytes(&tracker_), 200'000u);
}

TEST_F(InjectionTrackerTest, TwoCallersMayEnableItAtOnce)
{
    for (unsigned i = 0; i < 50; i++)
    {
        InjectionTrackerUninitialize(&tracker_);
        RunThreads(2, [&](unsigned) { InjectionTrackerEnable(&tracker_); });
        Add("one");
        EXPECT_TRUE(Take("one"));
    }
}

TEST_F(InjectionTrackerTest, RacingCallersTakeEachPacketOnce)
{
    std::atomic<unsigned> taken{0};

    for (unsigned i = 0; i < 100; i++)
    {
        Add("packet");
        RunThreads(2, [&](unsigned) { taken += Take("packet") ? 1 : 0; });
    }
    EXPECT_EQ(taken, 100u);
}

TEST_F(InjectionTrackerTest, WorksAtDispatchLevel)
{
    const kext_test::AtDispatchLevel dispatch;

    Add("one");
    EXPECT_TRUE(Take("one"));
}

} // namespace
