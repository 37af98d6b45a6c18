#include "return_table.h"

#include "kext_test.h"

namespace
{

using namespace std::chrono_literals;
using kext_test::Bytes;

class ReturnTableTest : public kext_test::KextTest
{
  protected:
    ReturnTableTest()
    {
        ReturnTableInitialize(&table_, &memory_);
        ReturnTableEnable(&table_);
    }

    ~ReturnTableTest() override { ReturnTableUninitialize(&table_); }

    void Add(const std::string &packet) { ReturnTableAdd(&table_, Bytes(packet).data(), Length(packet)); }
    bool Take(const std::string &packet) { return ReturnTableTake(&table_, Bytes(packet).data(), Length(packet)); }

    static uint32_t Length(const std::string &packet) { return static_cast<uint32_t>(packet.size()); }

    RETURN_TABLE table_;
};

TEST_F(ReturnTableTest, WhatWasInjectedIsTakenOnce)
{
    Add("one");
    Add("two");
    EXPECT_FALSE(Take("three"));
    EXPECT_TRUE(Take("two"));
    EXPECT_FALSE(Take("two"));
    EXPECT_TRUE(Take("one"));
}

TEST_F(ReturnTableTest, RemembersNothingUntilAnotherProductIsSeen)
{
    ReturnTableUninitialize(&table_);
    EXPECT_EQ(ReturnTableBytes(&table_), 0u);
    Add("one");
    EXPECT_FALSE(Take("one"));
    ReturnTableEnable(&table_);
    EXPECT_FALSE(Take("one"));
    Add("one");
    EXPECT_TRUE(Take("one"));
}

TEST_F(ReturnTableTest, ForgetsAfterTenSeconds)
{
    Add("one");
    Advance(9s);
    Add("two");
    Advance(1s);
    EXPECT_FALSE(Take("one"));
    EXPECT_TRUE(Take("two"));
}

TEST_F(ReturnTableTest, ThousandsOnTheirWayAtOnceAreAllFound)
{
    constexpr unsigned kOnTheirWay = 5000;

    for (unsigned i = 0; i < kOnTheirWay; i++)
    {
        Add(std::to_string(i));
    }
    EXPECT_EQ(ReturnTableCount(&table_), kOnTheirWay);
    for (unsigned i = 0; i < kOnTheirWay; i++)
    {
        EXPECT_TRUE(Take(std::to_string(i))) << i;
    }
    EXPECT_EQ(ReturnTableCount(&table_), 0u);
}

TEST_F(ReturnTableTest, OfMoreThanItHasRoomForTheNewestAreFound)
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
    EXPECT_EQ(found, RETURN_TABLE_SETS * RETURN_TABLE_WAYS);
}

TEST_F(ReturnTableTest, EachOfTheSameBytesIsTakenOnce)
{
    Add("one");
    Add("one");
    EXPECT_TRUE(Take("one"));
    EXPECT_TRUE(Take("one"));
    EXPECT_FALSE(Take("one"));
}

TEST_F(ReturnTableTest, WithoutMemoryItTriesAgain)
{
    ReturnTableUninitialize(&table_);
    machine_.faults().FailAll();
    ReturnTableEnable(&table_);
    machine_.faults().Stop();
    Add("one");
    EXPECT_FALSE(Take("one"));

    ReturnTableEnable(&table_);
    Add("one");
    ReturnTableEnable(&table_);
    EXPECT_TRUE(Take("one")) << "enabled once more it keeps what it has";
    EXPECT_GT(ReturnTableBytes(&table_), 200'000u);
}

TEST_F(ReturnTableTest, TwoMayEnableItAtOnce)
{
    for (unsigned i = 0; i < 50; i++)
    {
        ReturnTableUninitialize(&table_);
        RunThreads(2, [&](unsigned) { ReturnTableEnable(&table_); });
        Add("one");
        EXPECT_TRUE(Take("one"));
    }
}

TEST_F(ReturnTableTest, EachIsTakenOnceWhoeverRaces)
{
    std::atomic<unsigned> taken{0};

    for (unsigned i = 0; i < 100; i++)
    {
        Add("packet");
        RunThreads(2, [&](unsigned) { taken += Take("packet") ? 1 : 0; });
    }
    EXPECT_EQ(taken, 100u);
}

TEST_F(ReturnTableTest, WorksAtDispatchLevel)
{
    const kext_test::AtDispatchLevel dispatch;

    Add("one");
    EXPECT_TRUE(Take("one"));
}

} // namespace
