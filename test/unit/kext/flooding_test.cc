// An attacker cannot slow a table down by choosing addresses and ports: chosen keys cost what random keys cost.

#include "bandwidth.h"
#include "connection_keys.h"
#include "kext_test.h"
#include "redirect_table.h"

#include <algorithm>
#include <limits>
#include <random>
#include <time.h>

namespace kext_test
{
namespace
{

using Keys = std::vector<CONNECTION_KEY>;

constexpr uint32_t kKeys = 20000;
constexpr unsigned kRounds = 7;

// If all chosen keys collided, a table would be thousands of times slower.
// CPU caches and other work on the machine never make it this slow.
constexpr double kMostTimesSlower = 8;

Keys RandomKeys()
{
    std::mt19937_64 random(20261128);
    Keys keys;

    for (uint32_t i = 0; i < kKeys; i++)
    {
        CONNECTION_KEY key = KeyV6(i);

        for (uint8_t &byte : key.RemoteAddress)
        {
            byte = static_cast<uint8_t>(random());
        }
        key.LocalPort = static_cast<uint16_t>(random());
        key.RemotePort = static_cast<uint16_t>(random());
        keys.push_back(key);
    }
    return keys;
}

struct Flood
{
    const char *name;
    CONNECTION_KEY (*key)(uint32_t i);
};

CONNECTION_KEY PortsOfOneHost(uint32_t i)
{
    CONNECTION_KEY key = KeyV4(0, static_cast<uint16_t>(443 + (i >> 16)));

    key.RemotePort = static_cast<uint16_t>(i);
    return key;
}

CONNECTION_KEY HostsOfOnePort(uint32_t i)
{
    CONNECTION_KEY key = KeyV4(0, 443);

    memcpy(key.RemoteAddress, &i, sizeof(i));
    key.RemotePort = 1024;
    return key;
}

// Changes two words equally: a hash that adds or XORs the words does not see it.
CONNECTION_KEY EqualHalves(uint32_t i)
{
    CONNECTION_KEY key = KeyV6(0, 443);

    memcpy(key.RemoteAddress, &i, sizeof(i));
    memcpy(key.RemoteAddress + 8, &i, sizeof(i));
    return key;
}

// Multiples of a power of two: a hash that takes a remainder does not see them.
CONNECTION_KEY EqualLowBits(uint32_t i)
{
    CONNECTION_KEY key = KeyV6(0, 443);
    const uint64_t stride = static_cast<uint64_t>(i) << 20;

    memcpy(key.RemoteAddress + 8, &stride, sizeof(stride));
    return key;
}

class FloodingTest : public KextTest, public testing::WithParamInterface<Flood>
{
  protected:
    FloodingTest() : random_(RandomKeys())
    {
        for (uint32_t i = 0; i < kKeys; i++)
        {
            chosen_.push_back(GetParam().key(i));
        }
    }

    // CPU time of this thread: other load on the machine does not count.
    static double ProcessorSeconds()
    {
        timespec time;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
        return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
    }

    template <typename Table> double BestLookupSeconds(const Keys &keys)
    {
        Table table(&memory_, keys);
        double best = std::numeric_limits<double>::infinity();

        for (unsigned round = 0; round < kRounds; round++)
        {
            const double start = ProcessorSeconds();

            for (const CONNECTION_KEY &key : keys)
            {
                table.Find(key);
            }
            best = std::min(best, ProcessorSeconds() - start);
        }
        return best;
    }

    template <typename Table> void ExpectNotSlowedDown()
    {
        EXPECT_LT(BestLookupSeconds<Table>(chosen_), kMostTimesSlower * BestLookupSeconds<Table>(random_));
    }

    Keys chosen_;
    Keys random_;
};

INSTANTIATE_TEST_SUITE_P(EachFlood, FloodingTest,
                         testing::Values(Flood{"PortsOfOneHost", PortsOfOneHost},
                                         Flood{"HostsOfOnePort", HostsOfOnePort}, Flood{"EqualHalves", EqualHalves},
                                         Flood{"EqualLowBits", EqualLowBits}),
                         [](const testing::TestParamInfo<Flood> &flood) { return std::string(flood.param.name); });

struct Connections
{
    Connections(MEMORY *memory, const Keys &keys)
    {
        CONNECTION_STATE state;

        ClockInitialize(&clock);
        EXPECT_EQ(ConnectionTableInitialize(&table, memory, &clock, 2 * kKeys), STATUS_SUCCESS);
        for (const CONNECTION_KEY &key : keys)
        {
            EXPECT_EQ(ConnectionTableFindOrInsert(&table, &key, 1, DirectionInbound, &state), STATUS_SUCCESS);
        }
    }
    ~Connections() { ConnectionTableUninitialize(&table); }

    void Find(const CONNECTION_KEY &key)
    {
        CONNECTION_STATE state;

        EXPECT_TRUE(ConnectionTableLookup(&table, &key, &state));
    }

    CLOCK clock;
    CONNECTION_TABLE table;
};

struct Counters
{
    Counters(MEMORY *memory, const Keys &keys)
    {
        EXPECT_EQ(LogInitialize(&log, memory), STATUS_SUCCESS);
        EXPECT_EQ(BandwidthInitialize(&table, memory, &log, kKeys), STATUS_SUCCESS);
        for (const CONNECTION_KEY &key : keys)
        {
            Find(key);
        }
        EXPECT_EQ(BandwidthEntries(&table), kKeys);
    }
    ~Counters()
    {
        BandwidthUninitialize(&table);
        LogUninitialize(&log);
    }

    void Find(const CONNECTION_KEY &key) { EXPECT_EQ(BandwidthAdd(&table, &key, 1, 1), STATUS_SUCCESS); }

    LOG log;
    BANDWIDTH table;
};

struct Redirects
{
    Redirects(MEMORY *memory, const Keys &keys)
    {
        ClockInitialize(&clock);
        EXPECT_EQ(RedirectTableInitialize(&table, memory, &clock, kKeys), STATUS_SUCCESS);
        for (const CONNECTION_KEY &key : keys)
        {
            EXPECT_EQ(RedirectTableNote(&table, &key, &key), STATUS_SUCCESS);
        }
    }
    ~Redirects() { RedirectTableUninitialize(&table); }

    void Find(const CONNECTION_KEY &key)
    {
        CONNECTION_KEY original;

        EXPECT_TRUE(RedirectTableFind(&table, &key, &original));
    }

    CLOCK clock;
    REDIRECT_TABLE table;
};

TEST_P(FloodingTest, ChosenConnectionsAreFoundAsFastAsRandomOnes)
{
    ExpectNotSlowedDown<Connections>();
}

TEST_P(FloodingTest, ChosenConnectionsAreCountedAsFastAsRandomOnes)
{
    ExpectNotSlowedDown<Counters>();
}

TEST_P(FloodingTest, ChosenRedirectionsAreFoundAsFastAsRandomOnes)
{
    ExpectNotSlowedDown<Redirects>();
}

} // namespace
} // namespace kext_test
