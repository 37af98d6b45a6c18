// Four threads insert, look up, end and hold connections in a table that is too small for them.
// Others evict, clean and change its limit meanwhile.
#include "connection_table.h"

#include "machine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace stress
{
namespace
{

constexpr unsigned kThreads = 4;
constexpr unsigned kSteps = 40'000;
constexpr uint32_t kKeys = 2000;
constexpr UINT64 kLimit = 512;

CONNECTION_KEY RandomKey(std::mt19937 &random)
{
    const uint32_t number = random() % kKeys;
    CONNECTION_KEY key = {};

    key.IpVersion = number % 3 == 0 ? 6 : 4;
    key.Protocol = number % 2 == 0 ? PROTOCOL_UDP : PROTOCOL_TCP;
    key.LocalPort = static_cast<UINT16>(1 + number % 7);
    key.RemotePort = static_cast<UINT16>(number);
    key.RemoteAddress[0] = static_cast<UINT8>(number % 5);
    return key;
}

class Table
{
  public:
    Table()
    {
        ClockInitialize(&clock_);
        MemoryInitialize(&memory_);
        EXPECT_EQ(ConnectionTableInitialize(&table_, &memory_, &clock_, kLimit), STATUS_SUCCESS);
        ConnectionTableEndRemoved(&table_, End, this);
    }

    ~Table()
    {
        ConnectionTableUninitialize(&table_);
        EXPECT_EQ(MemoryBytes(&memory_), 0u);
    }

    void Step(std::mt19937 &random)
    {
        const CONNECTION_KEY key = RandomKey(random);
        CONNECTION_STATE state;
        CONNECTION ended;

        switch (random() % 8)
        {
        case 0:
        case 1:
        case 2:
            Insert(key, random);
            break;
        case 3:
            (void)ConnectionTableLookupPacket(&table_, &key, random() % 2, &state);
            break;
        case 4:
            (void)ConnectionTableEnd(&table_, &key, 0, &ended);
            break;
        case 5:
            (void)ConnectionTableSetVerdict(&table_, &key, static_cast<UINT8>(random() % VerdictCount), &state);
            break;
        case 6:
            (void)ConnectionTableEvict(&table_, 2);
            break;
        default:
            ChangeRarely(random);
        }
    }

    // What is in the table agrees with the shares.
    void Check()
    {
        CONNECTION_WALK walk = {};
        std::vector<CONNECTION> all(2 * kLimit);
        UINT64 counted = 0;

        all.resize(ConnectionTableWalk(&table_, &walk, all.data(), static_cast<UINT32>(all.size())));
        EXPECT_EQ(all.size(), ConnectionTableCount(&table_));
        for (UINT32 owner = 0; owner < OWNER_SHARES_COUNTERS; owner++)
        {
            counted += OwnerSharesCount(&table_.Shares, static_cast<UINT16>(owner));
        }
        EXPECT_EQ(counted, all.size());
        EXPECT_LE(all.size(), kLimit + kThreads);
        EXPECT_GT(evicted_, 0u);
    }

  private:
    static VOID End(VOID *context, const CONNECTION *connection)
    {
        auto *table = static_cast<Table *>(context);
        CONNECTION ended;

        table->evicted_ += connection->Life.EndReason == EndReasonEvicted ? 1 : 0;
        (void)ConnectionTableEnd(&table->table_, &connection->Key, connection->State.Generation, &ended);
    }

    // A question is held for a moment. Its connection is still there when the verdict comes.
    void Insert(const CONNECTION_KEY &key, std::mt19937 &random)
    {
        const CONNECTION_ORIGIN origin = {random() % 9, nullptr, 0, FALSE};
        CONNECTION_STATE state;
        CONNECTION copy = {};

        if (!NT_SUCCESS(
                ConnectionTableFindOrInsert(&table_, &key, random() % 9, static_cast<UINT8>(random() % 2), &state)))
        {
            return;
        }
        ConnectionTableSetOrigin(&table_, &key, state.Generation, &origin);
        ConnectionTableAddPending(&table_, &key, state.Generation, 1);
        if (ConnectionTableIsPending(&table_, &key, state.Generation))
        {
            std::this_thread::yield();
            (void)ConnectionTableCopyLive(&table_, &key, &copy);
            EXPECT_TRUE(ConnectionTableIsPending(&table_, &key, state.Generation) ||
                        copy.State.Generation != state.Generation);
            (void)ConnectionTableResolvePending(&table_, &key, state.Generation, VerdictPermanentAccept);
        }
    }

    void ChangeRarely(std::mt19937 &random)
    {
        switch (random() % 64)
        {
        case 0:
            (void)ConnectionTableSetLimit(&table_, kLimit / 2);
            break;
        case 1:
            (void)ConnectionTableSetLimit(&table_, kLimit);
            break;
        case 2:
            (void)ConnectionTableClean(&table_, TRUE, nullptr);
            break;
        default:
            break;
        }
    }

    CLOCK clock_;
    MEMORY memory_;
    CONNECTION_TABLE table_;
    std::atomic<uint64_t> evicted_{0};
};

TEST(StressTest, ATableThatEvictsStaysWholeUnderEverythingAtOnce)
{
    sim::Machine machine(sim::MachineOptions{});
    sim::Machine::Scope scope(machine);
    Table table;
    std::vector<std::thread> threads;

    for (unsigned thread = 0; thread < kThreads; thread++)
    {
        threads.emplace_back(
            [&, thread]
            {
                sim::Machine::Scope of_thread(machine);
                std::mt19937 random(thread);

                for (unsigned step = 0; step < kSteps; step++)
                {
                    table.Step(random);
                }
            });
    }
    for (std::thread &thread : threads)
    {
        thread.join();
    }
    table.Check();
}

} // namespace
} // namespace stress
