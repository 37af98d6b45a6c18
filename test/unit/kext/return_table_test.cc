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
        ReturnTableInitialize(&table_);
        ReturnTableEnable(&table_);
    }

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
    ReturnTableInitialize(&table_);
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

TEST_F(ReturnTableTest, TheNewestOfManyAreFound)
{
    unsigned found = 0;

    for (unsigned i = 0; i < 100'000; i++)
    {
        Add(std::to_string(i));
    }
    EXPECT_TRUE(Take("99999"));
    for (unsigned i = 0; i < 99'999; i++)
    {
        found += Take(std::to_string(i)) ? 1 : 0;
    }
    EXPECT_EQ(found, RETURN_TABLE_COUNT - 1);
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
