// What a connection has done since its start, and walks over the whole table.
#include "connection_table.h"

#include "connection_keys.h"
#include "kext_test.h"

#include <map>
#include <set>

namespace
{

using kext_test::KeyV4;
using kext_test::KeyV6;
using namespace std::chrono_literals;

class ConnectionWalkTest : public kext_test::KextTest
{
  protected:
    using Counts = std::map<std::vector<uint8_t>, unsigned>;

    ConnectionWalkTest() { EXPECT_EQ(ConnectionTableInitialize(&table_, &memory_, &clock_, 1 << 20), STATUS_SUCCESS); }
    ~ConnectionWalkTest() override { ConnectionTableUninitialize(&table_); }

    UINT32 Insert(const CONNECTION_KEY &key)
    {
        CONNECTION_STATE state{};

        EXPECT_TRUE(NT_SUCCESS(ConnectionTableFindOrInsert(&table_, &key, 7, DirectionOutbound, &state)));
        return state.Generation;
    }

    static std::vector<uint8_t> Bytes(const CONNECTION_KEY &key)
    {
        const auto *bytes = reinterpret_cast<const uint8_t *>(&key);

        return std::vector<uint8_t>(bytes, bytes + sizeof(key));
    }

    // Makes one step of a walk. Counts the connections that it shows.
    UINT32 Step(CONNECTION_WALK *walk, UINT32 capacity, Counts *seen)
    {
        std::vector<CONNECTION> connections(capacity);
        const UINT32 count = ConnectionTableWalk(&table_, walk, connections.data(), capacity);

        EXPECT_LE(count, capacity);
        for (UINT32 i = 0; i < count; i++)
        {
            (*seen)[Bytes(connections[i].Key)]++;
        }
        return count;
    }

    CONNECTION Only()
    {
        CONNECTION_WALK walk{};
        CONNECTION connection{};

        EXPECT_EQ(ConnectionTableWalk(&table_, &walk, &connection, 1), 1u);
        return connection;
    }

    CONNECTION_TABLE table_;
};

TEST_F(ConnectionWalkTest, AnEmptyTableHasNothingToShow)
{
    CONNECTION_WALK walk{};
    Counts seen;

    EXPECT_EQ(Step(&walk, 10, &seen), 0u);
    EXPECT_TRUE(ConnectionWalkIsOver(&walk));
    EXPECT_EQ(Step(&walk, 10, &seen), 0u);
}

TEST_F(ConnectionWalkTest, APlaceBeyondTheTableIsItsEnd)
{
    CONNECTION_WALK walk = {0xFFFFFFFF, 0xFFFFFFFF};
    Counts seen;

    Insert(KeyV4(1));
    EXPECT_EQ(Step(&walk, 10, &seen), 0u);
    EXPECT_TRUE(ConnectionWalkIsOver(&walk));
}

TEST_F(ConnectionWalkTest, ShowsEveryConnectionOnceWhateverTheSizeOfAStep)
{
    for (uint32_t i = 0; i < 3000; i++)
    {
        Insert(KeyV4(i));
        Insert(KeyV6(i));
    }
    for (UINT32 capacity : {16u, 97u, 10000u})
    {
        CONNECTION_WALK walk{};
        Counts seen;

        while (!ConnectionWalkIsOver(&walk))
        {
            ASSERT_TRUE(Step(&walk, capacity, &seen) != 0 || ConnectionWalkIsOver(&walk));
        }
        EXPECT_EQ(seen.size(), 6000u);
        for (const auto &[key, count] : seen)
        {
            ASSERT_EQ(count, 1u);
        }
    }
}

TEST_F(ConnectionWalkTest, ShowsWhatStaysOnceWhileTheTableGrows)
{
    uint32_t next = 1000;
    CONNECTION_WALK walk{};
    Counts seen;

    for (uint32_t i = 0; i < 1000; i++)
    {
        Insert(KeyV4(i));
    }
    while (!ConnectionWalkIsOver(&walk))
    {
        Step(&walk, 32, &seen);
        for (unsigned i = 0; i < 1000 && next < 60000; i++)
        {
            Insert(KeyV4(next++));
        }
    }
    for (uint32_t i = 0; i < 1000; i++)
    {
        ASSERT_EQ(seen[Bytes(KeyV4(i))], 1u) << i;
    }
}

TEST_F(ConnectionWalkTest, MissesNothingThatStaysWhileTheTableShrinks)
{
    CONNECTION_WALK walk{};
    CONNECTION ended;
    Counts seen;

    for (uint32_t i = 0; i < 40000; i++)
    {
        const CONNECTION_KEY key = KeyV4(i);

        Insert(key);
        if (i % 40 != 0)
        {
            EXPECT_TRUE(ConnectionTableEnd(&table_, &key, 0, &ended));
        }
    }
    for (unsigned i = 0; i < 100; i++)
    {
        Step(&walk, 100, &seen);
    }
    Advance(62s);
    EXPECT_EQ(ConnectionTableClean(&table_, FALSE, nullptr), 39000u);
    while (!ConnectionWalkIsOver(&walk))
    {
        Step(&walk, 100, &seen);
    }
    for (uint32_t i = 0; i < 40000; i += 40)
    {
        ASSERT_GE(seen[Bytes(KeyV4(i))], 1u) << i;
    }
}

TEST_F(ConnectionWalkTest, ShowsTheLastQuestionAndWhetherItWaits)
{
    const CONNECTION_KEY key = KeyV4(1);
    const UINT32 generation = Insert(key);

    EXPECT_EQ(Only().Life.Question, 0u);
    EXPECT_FALSE(Only().Life.Waiting);
    ConnectionTableSetReported(&table_, &key, generation, 0xA1B2C3D4E5F6ULL);
    EXPECT_EQ(Only().Life.Question, 0xA1B2C3D4E5F6ULL);
    ConnectionTableSetReported(&table_, &key, generation + 1, 9);
    EXPECT_EQ(Only().Life.Question, 0xA1B2C3D4E5F6ULL) << "another connection";
    ConnectionTableSetReported(&table_, &key, generation, 8);
    EXPECT_EQ(Only().Life.Question, 8u);
    ConnectionTableAddPending(&table_, &key, generation, 0);
    EXPECT_TRUE(Only().Life.Waiting);
    ConnectionTableReleasePending(&table_, &key, generation);
    EXPECT_FALSE(Only().Life.Waiting);
}

TEST_F(ConnectionWalkTest, CountsBytesSinceTheStartOfAConnection)
{
    const CONNECTION_KEY key = KeyV4(1);
    const CONNECTION_KEY unknown = KeyV4(2);
    CONNECTION ended;

    Insert(key);
    ConnectionTableAddBytes(&table_, &key, FALSE, 100);
    ConnectionTableAddBytes(&table_, &key, TRUE, 1ULL << 40);
    ConnectionTableAddBytes(&table_, &key, FALSE, 1);
    ConnectionTableAddBytes(&table_, &unknown, FALSE, 5);
    EXPECT_EQ(Only().Life.TransmittedBytes, 101u);
    EXPECT_EQ(Only().Life.ReceivedBytes, 1ULL << 40);

    EXPECT_TRUE(ConnectionTableEnd(&table_, &key, 0, &ended));
    EXPECT_EQ(ended.Life.TransmittedBytes, 101u);
    Insert(key);
    EXPECT_EQ(Only().Life.TransmittedBytes, 0u) << "its successor starts anew";
    EXPECT_EQ(Only().Life.ReceivedBytes, 0u);
}

TEST_F(ConnectionWalkTest, KnowsWhenAConnectionStartedAndHowLongItIsIdle)
{
    const CONNECTION_KEY key = KeyV4(1);
    LARGE_INTEGER now;

    Advance(5s);
    KeQuerySystemTime(&now);
    Insert(key);
    Advance(30s);
    const CONNECTION_LIFE life = Only().Life;
    EXPECT_LE(life.StartTime, static_cast<UINT64>(now.QuadPart));
    EXPECT_GT(life.StartTime, static_cast<UINT64>(now.QuadPart) - 2000) << "a fifth of a millisecond";
    EXPECT_EQ(life.IdleSeconds, 30u);
}

} // namespace
