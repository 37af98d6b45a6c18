#include "connection_table.h"

#include "connection_keys.h"
#include "kext_test.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace
{

using kext_test::KeyV4;
using kext_test::KeyV6;
using namespace std::chrono_literals;

const UINT8 kAnyAddress[16] = {};

class ConnectionTableTest : public kext_test::KextTest
{
  protected:
    ConnectionTableTest() { EXPECT_EQ(ConnectionTableInitialize(&table_, &memory_, 1 << 20), STATUS_SUCCESS); }
    ~ConnectionTableTest() override { ConnectionTableUninitialize(&table_); }

    NTSTATUS Insert(const CONNECTION_KEY &key, UINT64 processId = 1, UINT8 direction = DirectionOutbound)
    {
        CONNECTION_STATE existing;

        return ConnectionTableInsert(&table_, &key, processId, direction, &existing);
    }

    bool Find(const CONNECTION_KEY &key)
    {
        CONNECTION_STATE state;

        return ConnectionTableLookup(&table_, &key, &state);
    }

    CONNECTION_STATE State(const CONNECTION_KEY &key)
    {
        CONNECTION_STATE state = {0xFF, 0xFF, 0xFF, 0xFF, 0};

        EXPECT_TRUE(ConnectionTableLookup(&table_, &key, &state));
        return state;
    }

    bool End(const CONNECTION_KEY &key)
    {
        CONNECTION ended;

        return ConnectionTableEnd(&table_, &key, &ended);
    }

    static VOID Collect(void *context, const CONNECTION *connection)
    {
        EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL);
        static_cast<std::vector<CONNECTION> *>(context)->push_back(*connection);
    }

    static CONNECTION_RELEASE Release(UINT8 protocol, UINT8 version, const UINT8 *address, UINT16 port)
    {
        CONNECTION_RELEASE release{};

        release.Protocol = protocol;
        release.IpVersion = version;
        release.LocalPort = port;
        std::copy_n(address, sizeof(release.LocalAddress), release.LocalAddress);
        return release;
    }

    std::vector<CONNECTION> EndByPort(const CONNECTION_RELEASE &release)
    {
        std::vector<CONNECTION> ended;

        ConnectionTableEndByPort(&table_, &release, Collect, &ended);
        return ended;
    }

    std::vector<CONNECTION> EndByPort(UINT8 protocol, UINT8 version, const UINT8 *address, UINT16 port)
    {
        return EndByPort(Release(protocol, version, address, port));
    }

    CONNECTION_TABLE table_;
};

TEST_F(ConnectionTableTest, FindsWhatWasInsertedAndNothingElse)
{
    EXPECT_FALSE(Find(KeyV4(1)));
    ASSERT_EQ(Insert(KeyV4(1), 4711, DirectionInbound), STATUS_SUCCESS);

    const CONNECTION_STATE state = State(KeyV4(1));
    EXPECT_EQ(state.Verdict, VerdictUndecided);
    EXPECT_EQ(state.Direction, DirectionInbound);
    EXPECT_FALSE(state.Ended);
    EXPECT_FALSE(state.Reported);
    EXPECT_FALSE(Find(KeyV4(2)));
    EXPECT_EQ(ConnectionTableCount(&table_), 1u);
}

TEST_F(ConnectionTableTest, ComparesEveryFieldOfTheKey)
{
    const CONNECTION_KEY key = KeyV4(1);

    ASSERT_EQ(Insert(key), STATUS_SUCCESS);
    for (size_t byte = 0; byte < sizeof(key); byte++)
    {
        CONNECTION_KEY other = key;

        reinterpret_cast<UINT8 *>(&other)[byte] ^= 1;
        EXPECT_FALSE(Find(other)) << byte;
    }
}

TEST_F(ConnectionTableTest, GetTellsAll)
{
    const CONNECTION_KEY key = KeyV6(5);
    CONNECTION connection;

    ASSERT_EQ(Insert(key, 99, DirectionInbound), STATUS_SUCCESS);
    ASSERT_TRUE(ConnectionTableSetVerdict(&table_, &key, VerdictPermanentBlock));
    ASSERT_TRUE(ConnectionTableSetReported(&table_, &key));
    ASSERT_TRUE(ConnectionTableGet(&table_, &key, &connection));
    EXPECT_EQ(memcmp(&connection.Key, &key, sizeof(key)), 0);
    EXPECT_EQ(connection.ProcessId, 99u);
    EXPECT_EQ(connection.Verdict, VerdictPermanentBlock);
    EXPECT_EQ(connection.Direction, DirectionInbound);
    EXPECT_FALSE(connection.Ended);
    EXPECT_TRUE(connection.Reported);

    const CONNECTION_KEY unknown = KeyV6(6);
    EXPECT_FALSE(ConnectionTableGet(&table_, &unknown, &connection));
}

TEST_F(ConnectionTableTest, ALiveConnectionCollidesAndIsTold)
{
    const CONNECTION_KEY key = KeyV4(1);
    CONNECTION_STATE existing;

    ASSERT_EQ(Insert(key, 1, DirectionInbound), STATUS_SUCCESS);
    ASSERT_TRUE(ConnectionTableSetVerdict(&table_, &key, VerdictAccept));
    EXPECT_EQ(ConnectionTableInsert(&table_, &key, 2, DirectionOutbound, &existing), STATUS_OBJECT_NAME_COLLISION);
    EXPECT_EQ(existing.Verdict, VerdictAccept);
    EXPECT_EQ(existing.Direction, DirectionInbound);
    EXPECT_EQ(ConnectionTableCount(&table_), 1u);
}

TEST_F(ConnectionTableTest, APortUsedAgainIsANewConnection)
{
    const CONNECTION_KEY key = KeyV4(1, 5000);
    CONNECTION connection;

    ASSERT_EQ(Insert(key, 1, DirectionInbound), STATUS_SUCCESS);
    ASSERT_TRUE(ConnectionTableSetVerdict(&table_, &key, VerdictPermanentBlock));
    ASSERT_TRUE(ConnectionTableSetReported(&table_, &key));
    ASSERT_TRUE(End(key));
    ASSERT_EQ(Insert(key, 2, DirectionOutbound), STATUS_SUCCESS);

    ASSERT_TRUE(ConnectionTableGet(&table_, &key, &connection));
    EXPECT_EQ(connection.ProcessId, 2u);
    EXPECT_EQ(connection.Verdict, VerdictUndecided);
    EXPECT_EQ(connection.Direction, DirectionOutbound);
    EXPECT_FALSE(connection.Ended);
    EXPECT_FALSE(connection.Reported);
    EXPECT_EQ(ConnectionTableCount(&table_), 1u);
    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 5000).size(), 1u) << "it is listed by port again";
}

TEST_F(ConnectionTableTest, OnlyLiveConnectionsCanBeChanged)
{
    const CONNECTION_KEY key = KeyV4(1);
    CONNECTION connection;

    EXPECT_FALSE(ConnectionTableSetVerdict(&table_, &key, VerdictAccept));
    EXPECT_FALSE(ConnectionTableSetReported(&table_, &key));
    ConnectionTableSetProcess(&table_, &key, 5);

    ASSERT_EQ(Insert(key, 0), STATUS_SUCCESS);
    ConnectionTableSetProcess(&table_, &key, 7);
    ASSERT_TRUE(End(key));
    EXPECT_FALSE(ConnectionTableSetVerdict(&table_, &key, VerdictAccept));
    ConnectionTableSetProcess(&table_, &key, 8);
    ASSERT_TRUE(ConnectionTableGet(&table_, &key, &connection));
    EXPECT_EQ(connection.ProcessId, 7u);
    EXPECT_EQ(connection.Verdict, VerdictUndecided);
}

TEST_F(ConnectionTableTest, OnlyTheFirstWhoReportsTooLateHasToTellTheEnd)
{
    const CONNECTION_KEY key = KeyV4(1);

    ASSERT_EQ(Insert(key, 0), STATUS_SUCCESS);
    ASSERT_TRUE(End(key));
    EXPECT_FALSE(ConnectionTableSetReported(&table_, &key));
    EXPECT_TRUE(ConnectionTableSetReported(&table_, &key));
    EXPECT_TRUE(State(key).Reported);
}

TEST_F(ConnectionTableTest, GenerationsTellConnectionsOfOneKeyApart)
{
    const CONNECTION_KEY key = KeyV4(1);
    CONNECTION_STATE first;
    CONNECTION_STATE second;
    CONNECTION_STATE existing;

    ASSERT_EQ(ConnectionTableInsert(&table_, &key, 1, DirectionOutbound, &first), STATUS_SUCCESS);
    EXPECT_EQ(ConnectionTableInsert(&table_, &key, 1, DirectionOutbound, &existing), STATUS_OBJECT_NAME_COLLISION);
    EXPECT_EQ(existing.Generation, first.Generation);
    ASSERT_TRUE(End(key));
    EXPECT_FALSE(ConnectionTableSetVerdictOf(&table_, &key, first.Generation, VerdictAccept)) << "ended";
    ASSERT_EQ(ConnectionTableInsert(&table_, &key, 1, DirectionOutbound, &second), STATUS_SUCCESS);
    EXPECT_NE(first.Generation, 0u);
    EXPECT_NE(second.Generation, first.Generation);
    EXPECT_EQ(second.Verdict, VerdictUndecided);

    EXPECT_FALSE(ConnectionTableSetVerdictOf(&table_, &key, first.Generation, VerdictPermanentAccept));
    EXPECT_FALSE(ConnectionTableSetVerdictOf(&table_, &key, 0, VerdictPermanentAccept));
    EXPECT_EQ(State(key).Verdict, VerdictUndecided);
    EXPECT_TRUE(ConnectionTableSetVerdictOf(&table_, &key, second.Generation, VerdictDrop));
    EXPECT_EQ(State(key).Verdict, VerdictDrop);
    EXPECT_EQ(State(key).Generation, second.Generation);
}

TEST_F(ConnectionTableTest, EndsOnceOnly)
{
    const CONNECTION_KEY key = KeyV4(3);
    CONNECTION ended;

    EXPECT_FALSE(ConnectionTableEnd(&table_, &key, &ended));
    ASSERT_EQ(Insert(key, 12, DirectionInbound), STATUS_SUCCESS);
    ASSERT_TRUE(ConnectionTableSetReported(&table_, &key));
    ASSERT_TRUE(ConnectionTableEnd(&table_, &key, &ended));
    EXPECT_EQ(memcmp(&ended.Key, &key, sizeof(key)), 0);
    EXPECT_EQ(ended.ProcessId, 12u);
    EXPECT_TRUE(ended.Ended);
    EXPECT_TRUE(ended.Reported);
    EXPECT_FALSE(ConnectionTableEnd(&table_, &key, &ended));
    EXPECT_TRUE(State(key).Ended);
}

TEST_F(ConnectionTableTest, HoldsItsMaximumAndNoMore)
{
    CONNECTION_TABLE table;
    CONNECTION_STATE existing;
    CONNECTION ended;

    ASSERT_EQ(ConnectionTableInitialize(&table, &memory_, 100), STATUS_SUCCESS);
    for (uint32_t i = 0; i < 100; i++)
    {
        const CONNECTION_KEY key = KeyV4(i);

        ASSERT_EQ(ConnectionTableInsert(&table, &key, 1, DirectionOutbound, &existing), STATUS_SUCCESS);
    }
    CONNECTION_KEY key = KeyV4(100);
    EXPECT_EQ(ConnectionTableInsert(&table, &key, 1, DirectionOutbound, &existing), STATUS_QUOTA_EXCEEDED);
    EXPECT_EQ(ConnectionTableCount(&table), 100u);

    // One that ended can still be replaced.
    key = KeyV4(50);
    ASSERT_TRUE(ConnectionTableEnd(&table, &key, &ended));
    EXPECT_EQ(ConnectionTableInsert(&table, &key, 1, DirectionOutbound, &existing), STATUS_SUCCESS);
    ConnectionTableUninitialize(&table);
}

TEST_F(ConnectionTableTest, GrowsAndFindsEverything)
{
    constexpr uint32_t kCount = 50000;

    for (uint32_t i = 0; i < kCount; i++)
    {
        ASSERT_EQ(Insert(i % 2 ? KeyV4(i) : KeyV6(i), i), STATUS_SUCCESS);
    }
    EXPECT_EQ(ConnectionTableCount(&table_), kCount);
    for (uint32_t i = 0; i < kCount; i++)
    {
        const CONNECTION_KEY key = i % 2 ? KeyV4(i) : KeyV6(i);
        CONNECTION connection;

        ASSERT_TRUE(ConnectionTableGet(&table_, &key, &connection));
        ASSERT_EQ(connection.ProcessId, i);
        ASSERT_FALSE(Find(i % 2 ? KeyV6(i) : KeyV4(i)));
    }
    EXPECT_GE(ConnectionTableBytes(&table_), kCount * 64u);
    EXPECT_LE(ConnectionTableBytes(&table_), MemoryBytes(&memory_));
}

TEST_F(ConnectionTableTest, AgreesWithASimpleModelUnderRandomUse)
{
    struct Expected
    {
        UINT8 verdict = 0;
        bool ended = false;
        bool reported = false;
        uint64_t process = 0;
    };
    std::map<CONNECTION_KEY, Expected, kext_test::KeyLess> model;
    std::mt19937 random(3);

    for (unsigned step = 0; step < 200000; step++)
    {
        const CONNECTION_KEY key = KeyV4(random() % 3000, static_cast<uint16_t>(1 + random() % 3));
        auto found = model.find(key);
        const bool live = found != model.end() && !found->second.ended;

        switch (random() % 8)
        {
        case 0:
        case 1:
        case 2:
        {
            const uint64_t process = random();

            ASSERT_EQ(Insert(key, process), live ? STATUS_OBJECT_NAME_COLLISION : STATUS_SUCCESS);
            if (!live)
            {
                model[key] = Expected();
                model[key].process = process;
            }
            break;
        }
        case 3:
        {
            const UINT8 verdict = static_cast<UINT8>(random() % VerdictCount);

            ASSERT_EQ(ConnectionTableSetVerdict(&table_, &key, verdict), live);
            if (live)
            {
                found->second.verdict = verdict;
            }
            break;
        }
        case 4:
            ASSERT_EQ(ConnectionTableSetReported(&table_, &key),
                      found != model.end() && (live || found->second.reported));
            if (found != model.end())
            {
                found->second.reported = true;
            }
            break;
        case 5:
            ASSERT_EQ(End(key), live);
            if (live)
            {
                found->second.ended = true;
            }
            break;
        case 6:
            if (random() % 500 == 0)
            {
                Advance(61s);
                const size_t before = model.size();
                for (auto it = model.begin(); it != model.end();)
                {
                    it = it->second.ended ? model.erase(it) : std::next(it);
                }
                ASSERT_EQ(ConnectionTableClean(&table_, FALSE), before - model.size());
            }
            break;
        default:
        {
            CONNECTION connection;

            ASSERT_EQ(ConnectionTableGet(&table_, &key, &connection), found != model.end());
            if (found != model.end())
            {
                ASSERT_EQ(connection.Verdict, found->second.verdict);
                ASSERT_EQ(connection.Ended, found->second.ended);
                ASSERT_EQ(connection.Reported, found->second.reported);
                ASSERT_EQ(connection.ProcessId, found->second.process);
            }
        }
        }
        ASSERT_EQ(ConnectionTableCount(&table_), model.size());
    }
}

TEST_F(ConnectionTableTest, CleansWhatEndedOverAMinuteAgo)
{
    ASSERT_EQ(Insert(KeyV4(1)), STATUS_SUCCESS);
    ASSERT_EQ(Insert(KeyV4(2)), STATUS_SUCCESS);
    ASSERT_TRUE(End(KeyV4(1)));

    Advance(60s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE), 0u);
    EXPECT_TRUE(Find(KeyV4(1)));
    Advance(1s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE), 1u);
    EXPECT_FALSE(Find(KeyV4(1)));
    EXPECT_TRUE(Find(KeyV4(2)));
}

TEST_F(ConnectionTableTest, CleaningIsNeverEarlyWhateverThePartOfASecond)
{
    for (int part = 0; part < 10; part++)
    {
        Advance(100ms);
        ASSERT_EQ(Insert(KeyV4(1)), STATUS_SUCCESS);
        ASSERT_TRUE(End(KeyV4(1)));
        Advance(60s);
        EXPECT_EQ(ConnectionTableClean(&table_, TRUE), 0u) << part;
        Advance(1s);
        EXPECT_EQ(ConnectionTableClean(&table_, TRUE), 1u) << part;
    }
}

TEST_F(ConnectionTableTest, LookingAtAnEndedConnectionDoesNotKeepIt)
{
    ASSERT_EQ(Insert(KeyV4(1)), STATUS_SUCCESS);
    ASSERT_TRUE(End(KeyV4(1)));
    Advance(40s);
    EXPECT_TRUE(Find(KeyV4(1)));
    Advance(21s);
    EXPECT_EQ(ConnectionTableClean(&table_, FALSE), 1u);
}

TEST_F(ConnectionTableTest, CleansLiveConnectionsAfterTenIdleMinutesOnlyWhenAsked)
{
    ASSERT_EQ(Insert(KeyV4(1)), STATUS_SUCCESS);
    ASSERT_EQ(Insert(KeyV4(2)), STATUS_SUCCESS);
    Advance(300s);
    EXPECT_TRUE(Find(KeyV4(2))); // a packet
    Advance(301s);
    EXPECT_EQ(ConnectionTableClean(&table_, FALSE), 0u);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE), 1u);
    EXPECT_FALSE(Find(KeyV4(1)));
    EXPECT_TRUE(Find(KeyV4(2)));
    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, KeyV4(1).LocalPort).size(), 0u);
}

const CONNECTION_KEY kOne = KeyV4(1);
const CONNECTION_KEY kTwo = KeyV4(2);

TEST_F(ConnectionTableTest, WhatSomethingWaitsOfIsNotCleanedUntilAllIsLetGo)
{
    CONNECTION_STATE ended;
    CONNECTION_STATE idle;
    ASSERT_EQ(ConnectionTableInsert(&table_, &kOne, 0, DirectionOutbound, &ended), STATUS_SUCCESS);
    ASSERT_EQ(ConnectionTableInsert(&table_, &kTwo, 0, DirectionOutbound, &idle), STATUS_SUCCESS);
    ASSERT_TRUE(End(kOne));
    ConnectionTableKeep(&table_, &kOne, ended.Generation);
    ConnectionTableKeep(&table_, &kOne, ended.Generation);
    ConnectionTableKeep(&table_, &kTwo, idle.Generation);
    Advance(3600s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE), 0u);

    ConnectionTableLetGo(&table_, &kOne, ended.Generation);
    ConnectionTableLetGo(&table_, &kTwo, idle.Generation);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE), 1u);
    ConnectionTableLetGo(&table_, &kOne, ended.Generation);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE), 1u);
}

TEST_F(ConnectionTableTest, WhatWaitsOfAnEarlierConnectionDoesNotKeepItsSuccessor)
{
    CONNECTION_STATE first;
    CONNECTION_STATE second;
    ASSERT_EQ(ConnectionTableInsert(&table_, &kOne, 0, DirectionOutbound, &first), STATUS_SUCCESS);
    ConnectionTableKeep(&table_, &kOne, first.Generation);
    ASSERT_TRUE(End(kOne));
    ASSERT_EQ(ConnectionTableInsert(&table_, &kOne, 0, DirectionOutbound, &second), STATUS_SUCCESS);
    ConnectionTableKeep(&table_, &kOne, second.Generation);
    ConnectionTableLetGo(&table_, &kOne, first.Generation);
    Advance(3600s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE), 0u);
    ConnectionTableLetGo(&table_, &kOne, second.Generation);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE), 1u);
}

TEST_F(ConnectionTableTest, ForgettingMakesWhatSomethingWaitsOfUndecidedAndRemovesTheRest)
{
    CONNECTION_STATE state;
    ASSERT_EQ(ConnectionTableInsert(&table_, &kOne, 0, DirectionOutbound, &state), STATUS_SUCCESS);
    ASSERT_EQ(Insert(kTwo), STATUS_SUCCESS);
    ASSERT_TRUE(ConnectionTableSetVerdict(&table_, &kOne, VerdictPermanentAccept));
    ConnectionTableKeep(&table_, &kOne, state.Generation);
    ConnectionTableForget(&table_);
    EXPECT_FALSE(Find(kTwo));
    ASSERT_TRUE(ConnectionTableLookup(&table_, &kOne, &state));
    EXPECT_EQ(state.Verdict, VerdictUndecided);

    ConnectionTableLetGo(&table_, &kOne, state.Generation);
    ConnectionTableForget(&table_);
    EXPECT_EQ(ConnectionTableCount(&table_), 0u);
}

TEST_F(ConnectionTableTest, TimeMayWrapAround)
{
    // The coarse clock has 32 bits of seconds: make it wrap between the last packet and the cleaning.
    Advance(std::chrono::seconds(0xFFFFFFFFLL - 300));
    ASSERT_EQ(Insert(KeyV4(1)), STATUS_SUCCESS);
    ASSERT_EQ(Insert(KeyV4(2)), STATUS_SUCCESS);
    ASSERT_TRUE(End(KeyV4(2)));
    Advance(500s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE), 1u);
    EXPECT_FALSE(Find(KeyV4(2)));
    EXPECT_TRUE(Find(KeyV4(1)));
    Advance(601s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE), 1u);
}

TEST_F(ConnectionTableTest, CleaningGivesMemoryBack)
{
    const UINT64 empty = MemoryBytes(&memory_);

    for (uint32_t i = 0; i < 20000; i++)
    {
        ASSERT_EQ(Insert(KeyV4(i, 80)), STATUS_SUCCESS);
    }
    const UINT64 full = MemoryBytes(&memory_);
    for (uint32_t i = 0; i < 20000; i++)
    {
        if (i % 20 != 0)
        {
            ASSERT_TRUE(End(KeyV4(i, 80)));
        }
    }
    Advance(61s);
    EXPECT_EQ(ConnectionTableClean(&table_, FALSE), 19000u);
    EXPECT_LT(MemoryBytes(&memory_) - empty, (full - empty) / 5);
    for (uint32_t i = 0; i < 20000; i++)
    {
        ASSERT_EQ(Find(KeyV4(i, 80)), i % 20 == 0);
    }

    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 80).size(), 1000u);
    Advance(61s);
    EXPECT_EQ(ConnectionTableClean(&table_, FALSE), 1000u);
    EXPECT_LT(MemoryBytes(&memory_) - empty, 4096u) << "only the page of the port index stays";
}

TEST_F(ConnectionTableTest, CleaningWithoutMemoryForSmallerArraysStillCleans)
{
    for (uint32_t i = 0; i < 20000; i++)
    {
        ASSERT_EQ(Insert(KeyV4(i)), STATUS_SUCCESS);
        if (i % 20 != 0)
        {
            ASSERT_TRUE(End(KeyV4(i)));
        }
    }
    Advance(61s);
    machine_.faults().FailAll();
    EXPECT_EQ(ConnectionTableClean(&table_, FALSE), 19000u);
    machine_.faults().Stop();
    for (uint32_t i = 0; i < 20000; i += 20)
    {
        ASSERT_TRUE(Find(KeyV4(i)));
    }
}

TEST_F(ConnectionTableTest, ClearForgetsEverything)
{
    for (uint32_t i = 0; i < 5000; i++)
    {
        ASSERT_EQ(Insert(KeyV4(i, 443)), STATUS_SUCCESS);
    }
    ASSERT_TRUE(End(KeyV4(7, 443)));
    ConnectionTableClear(&table_);
    EXPECT_EQ(ConnectionTableCount(&table_), 0u);
    EXPECT_FALSE(Find(KeyV4(7, 443)));
    EXPECT_FALSE(Find(KeyV4(8, 443)));
    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 443).size(), 0u);
    EXPECT_EQ(Insert(KeyV4(8, 443)), STATUS_SUCCESS);
}

TEST_F(ConnectionTableTest, EndsExactlyTheConnectionsOfOnePort)
{
    const CONNECTION_KEY mine[] = {KeyV4(1, 5000), KeyV4(2, 5000), KeyV4(3, 5000)};
    const CONNECTION_KEY others[] = {KeyV4(4, 5001),
                                     KeyV4(5, static_cast<uint16_t>(5000 + 256)),
                                     KeyV4(6, 5000, PROTOCOL_UDP),
                                     KeyV4(7, 5000, 132),
                                     KeyV6(8, 5000),
                                     KeyV6(9, 5000, PROTOCOL_UDP)};

    for (const CONNECTION_KEY &key : mine)
    {
        ASSERT_EQ(Insert(key), STATUS_SUCCESS);
    }
    for (const CONNECTION_KEY &key : others)
    {
        ASSERT_EQ(Insert(key), STATUS_SUCCESS);
    }
    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 5000).size(), 3u);
    for (const CONNECTION_KEY &key : mine)
    {
        EXPECT_TRUE(State(key).Ended);
    }
    for (const CONNECTION_KEY &key : others)
    {
        EXPECT_FALSE(State(key).Ended);
    }
    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 5000).size(), 0u) << "each ends once";
    EXPECT_EQ(EndByPort(132, 4, kAnyAddress, 5000).size(), 1u);
    EXPECT_EQ(EndByPort(133, 4, kAnyAddress, 5000).size(), 0u);
    EXPECT_EQ(EndByPort(PROTOCOL_UDP, 6, kAnyAddress, 5000).size(), 1u);
}

TEST_F(ConnectionTableTest, EndsByLocalAddressWhenThereIsOne)
{
    CONNECTION_KEY here = KeyV4(1, 5000);
    CONNECTION_KEY there = KeyV4(2, 5000);

    there.LocalAddress[3] = 9;
    ASSERT_EQ(Insert(here), STATUS_SUCCESS);
    ASSERT_EQ(Insert(there), STATUS_SUCCESS);
    const std::vector<CONNECTION> ended = EndByPort(PROTOCOL_TCP, 4, there.LocalAddress, 5000);
    ASSERT_EQ(ended.size(), 1u);
    EXPECT_EQ(memcmp(&ended[0].Key, &there, sizeof(there)), 0);
    EXPECT_FALSE(State(here).Ended);
}

TEST_F(ConnectionTableTest, EndsManyConnectionsOfOnePortEachOnce)
{
    constexpr uint32_t kCount = 3000;
    std::set<CONNECTION_KEY, kext_test::KeyLess> seen;

    for (uint32_t i = 0; i < kCount; i++)
    {
        ASSERT_EQ(Insert(KeyV4(i, 443), i), STATUS_SUCCESS);
    }
    for (const CONNECTION &connection : EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 443))
    {
        EXPECT_TRUE(connection.Ended);
        EXPECT_TRUE(seen.insert(connection.Key).second);
    }
    EXPECT_EQ(seen.size(), kCount);
}

TEST_F(ConnectionTableTest, PortZeroAndThePortsAtTheEdgesAreListed)
{
    for (uint16_t port : {1, 255, 256, 32767, 65535})
    {
        ASSERT_EQ(Insert(KeyV4(1, port)), STATUS_SUCCESS);
        EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, port).size(), 1u) << port;
    }
    CONNECTION_KEY none = KeyV4(1, 1);
    none.LocalPort = 0;
    ASSERT_EQ(Insert(none), STATUS_SUCCESS);
    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 0).size(), 1u);
}

TEST_F(ConnectionTableTest, AVisitorMayUseTheTable)
{
    struct Visit
    {
        CONNECTION_TABLE *table;
        unsigned calls = 0;

        static VOID Replace(void *context, const CONNECTION *connection)
        {
            Visit *visit = static_cast<Visit *>(context);
            CONNECTION_STATE existing;

            visit->calls++;
            EXPECT_EQ(ConnectionTableInsert(visit->table, &connection->Key, 9, DirectionInbound, &existing),
                      STATUS_SUCCESS);
        }
    } visit = {&table_};

    for (uint32_t i = 0; i < 100; i++)
    {
        ASSERT_EQ(Insert(KeyV4(i, 443)), STATUS_SUCCESS);
    }
    const CONNECTION_RELEASE release = Release(PROTOCOL_TCP, 4, kAnyAddress, 443);
    ConnectionTableEndByPort(&table_, &release, Visit::Replace, &visit);
    EXPECT_EQ(visit.calls, 100u) << "what the visitor adds is not ended by the same call";
    EXPECT_FALSE(State(KeyV4(1, 443)).Ended);
}

TEST_F(ConnectionTableTest, APortOfOneProcessEndsThoseOfTheOthersNot)
{
    CONNECTION_RELEASE release = Release(PROTOCOL_TCP, 4, kAnyAddress, 443);

    ASSERT_EQ(Insert(KeyV4(1, 443), 7), STATUS_SUCCESS);
    ASSERT_EQ(Insert(KeyV4(2, 443), 8), STATUS_SUCCESS);
    ASSERT_EQ(Insert(KeyV4(3, 443), 0), STATUS_SUCCESS);
    release.ProcessId = 7;
    EXPECT_EQ(EndByPort(release).size(), 2u);
    EXPECT_FALSE(State(KeyV4(2, 443)).Ended);
    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 443).size(), 1u);
}

TEST_F(ConnectionTableTest, APortCanBeGivenUpForOutboundConnectionsOnly)
{
    CONNECTION_RELEASE release = Release(PROTOCOL_TCP, 4, kAnyAddress, 443);

    ASSERT_EQ(Insert(KeyV4(1, 443), 7, DirectionInbound), STATUS_SUCCESS);
    ASSERT_EQ(Insert(KeyV4(2, 443), 7, DirectionOutbound), STATUS_SUCCESS);
    release.OutboundOnly = TRUE;
    EXPECT_EQ(EndByPort(release).size(), 1u);
    EXPECT_FALSE(State(KeyV4(1, 443)).Ended);
}

TEST_F(ConnectionTableTest, ANullVisitorIsAllowed)
{
    ASSERT_EQ(Insert(KeyV4(1, 443)), STATUS_SUCCESS);
    const CONNECTION_RELEASE release = Release(PROTOCOL_TCP, 4, kAnyAddress, 443);

    ConnectionTableEndByPort(&table_, &release, nullptr, nullptr);
    EXPECT_TRUE(State(KeyV4(1, 443)).Ended);
}

// Keys that differ in one field only, in the patterns that a hash might fold together.
TEST_F(ConnectionTableTest, HostileKeysSpreadOverTheShards)
{
    std::vector<std::vector<CONNECTION_KEY>> families(5);

    for (uint32_t i = 0; i < 32768; i++)
    {
        CONNECTION_KEY key = KeyV4(0, 443);

        key.RemotePort = static_cast<uint16_t>(2 * i);
        families[0].push_back(key);
        key = KeyV4(0, 443);
        key.RemoteAddress[0] = static_cast<uint8_t>(i >> 8);
        key.RemoteAddress[3] = static_cast<uint8_t>(i);
        families[1].push_back(key);
        key = KeyV4(0, 443);
        key.RemotePort = static_cast<uint16_t>(i);
        key.LocalPort = static_cast<uint16_t>(~i);
        families[2].push_back(key);
        key = KeyV4(0, 443);
        key.LocalPort = static_cast<uint16_t>(i);
        key.RemotePort = static_cast<uint16_t>(i);
        families[3].push_back(key);
        key = KeyV6(0, 443);
        memcpy(key.RemoteAddress, &i, 4);
        memcpy(key.RemoteAddress + 8, &i, 4);
        families[4].push_back(key);
    }
    for (const std::vector<CONNECTION_KEY> &family : families)
    {
        std::vector<unsigned> shards(CONNECTION_TABLE_SHARD_COUNT);
        std::vector<unsigned> low(1024);

        for (const CONNECTION_KEY &key : family)
        {
            const UINT64 hash = SipHash13Of40(&table_.HashKey, &key);

            shards[hash >> 54]++;
            low[hash & 1023]++;
        }
        // 32 on average; of 1024 Poisson numbers the largest is over 72 once in 10^6 times.
        EXPECT_LE(*std::max_element(shards.begin(), shards.end()), 72u);
        EXPECT_LE(*std::max_element(low.begin(), low.end()), 72u);
        EXPECT_GE(*std::min_element(shards.begin(), shards.end()), 5u);
    }
}

TEST_F(ConnectionTableTest, EveryFailedAllocationLeavesAWorkingTable)
{
    for (uint32_t round = 0; round < 40; round++)
    {
        uint32_t inserted = 0;

        ForEachAllocationFailure(
            [&](unsigned n)
            {
                const CONNECTION_KEY key = KeyV4(round * 1000 + n, static_cast<uint16_t>(round * 256 + 1));
                NTSTATUS status = Insert(key);

                EXPECT_TRUE(status == STATUS_SUCCESS || status == STATUS_INSUFFICIENT_RESOURCES);
                EXPECT_EQ(Find(key), status == STATUS_SUCCESS);
                inserted += status == STATUS_SUCCESS ? 1 : 0;
            });
        EXPECT_GE(inserted, 1u);
    }
}

TEST_F(ConnectionTableTest, AShardThatCannotGrowWorksUntilItIsFull)
{
    CONNECTION_TABLE table;
    CONNECTION_STATE existing;
    uint32_t inserted = 0;

    ASSERT_EQ(ConnectionTableInitialize(&table, &memory_, 1 << 20), STATUS_SUCCESS);
    // About one array a shard, and then no larger ones: an insert allocates the port page (once), the cold part, the
    // array. With every third allocation or so failing the arrays fill up.
    std::vector<CONNECTION_KEY> kept;
    for (uint32_t i = 0; i < 30000; i++)
    {
        const CONNECTION_KEY key = KeyV4(i, 443);

        // The second allocation of an insert is the larger array, if one is needed.
        machine_.faults().FailNth(i < 3000 ? 1000 : 1);
        NTSTATUS status = ConnectionTableInsert(&table, &key, 1, DirectionOutbound, &existing);
        machine_.faults().Stop();
        if (status == STATUS_SUCCESS)
        {
            kept.push_back(key);
            inserted++;
        }
        else
        {
            ASSERT_EQ(status, STATUS_INSUFFICIENT_RESOURCES);
        }
    }
    UINT64 cells = 0;
    EXPECT_EQ(ConnectionTableCount(&table), inserted);
    cells = (ConnectionTableBytes(&table) - inserted) / 64;
    EXPECT_GT(inserted, 4096u) << "beyond the load at which shards like to grow";
    EXPECT_GT(cells, inserted);
    for (const CONNECTION_KEY &key : kept)
    {
        ASSERT_TRUE(ConnectionTableLookup(&table, &key, &existing));
    }
    const CONNECTION_KEY unknown = KeyV4(999999, 443);
    EXPECT_FALSE(ConnectionTableLookup(&table, &unknown, &existing)) << "also in a shard without an empty cell";

    // Removal from full arrays keeps the rest.
    CONNECTION ended;
    for (size_t i = 0; i < kept.size(); i += 2)
    {
        ASSERT_TRUE(ConnectionTableEnd(&table, &kept[i], &ended));
    }
    Advance(61s);
    ConnectionTableClean(&table, FALSE);
    for (size_t i = 0; i < kept.size(); i++)
    {
        ASSERT_EQ(ConnectionTableLookup(&table, &kept[i], &existing), i % 2 != 0);
    }
    ConnectionTableUninitialize(&table);
}

TEST_F(ConnectionTableTest, EveryFailureOfInitializationIsClean)
{
    ForEachAllocationFailure(
        [&](unsigned n)
        {
            CONNECTION_TABLE table;
            NTSTATUS status = ConnectionTableInitialize(&table, &memory_, 1000);

            EXPECT_EQ(status, n < 2 ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS);
            ConnectionTableUninitialize(&table);
        });
}

TEST_F(ConnectionTableTest, LookupsAndUpdatesAllocateNothing)
{
    const CONNECTION_KEY key = KeyV4(1);
    CONNECTION connection;

    ASSERT_EQ(Insert(key), STATUS_SUCCESS);
    machine_.faults().FailAll();
    EXPECT_TRUE(Find(key));
    EXPECT_TRUE(ConnectionTableSetVerdict(&table_, &key, VerdictAccept));
    EXPECT_TRUE(ConnectionTableSetReported(&table_, &key));
    ConnectionTableSetProcess(&table_, &key, 4);
    EXPECT_TRUE(ConnectionTableGet(&table_, &key, &connection));
    EXPECT_TRUE(ConnectionTableEnd(&table_, &key, &connection));
    EXPECT_EQ(machine_.faults().calls(), 0u);
    machine_.faults().Stop();
}

TEST_F(ConnectionTableTest, WorksAtDispatchLevel)
{
    const CONNECTION_RELEASE release = Release(PROTOCOL_TCP, 4, kAnyAddress, 80);
    kext_test::AtDispatchLevel dispatch;

    ASSERT_EQ(Insert(KeyV4(1, 80)), STATUS_SUCCESS);
    EXPECT_TRUE(Find(KeyV4(1, 80)));
    ConnectionTableEndByPort(&table_, &release, nullptr, nullptr);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE), 0u);
    EXPECT_GT(ConnectionTableBytes(&table_), 0u);
    ConnectionTableClear(&table_);
}

TEST_F(ConnectionTableTest, ManyProcessorsAgreeOnWhoInsertsAndWhoEnds)
{
    constexpr uint32_t kKeys = 400;
    constexpr unsigned kRounds = 20;
    std::atomic<uint64_t> inserted{0};
    std::atomic<uint64_t> ended{0};

    RunThreads(4,
               [&](unsigned thread)
               {
                   std::mt19937 random(thread);

                   for (uint32_t i = 0; i < kKeys * kRounds; i++)
                   {
                       const CONNECTION_KEY key = KeyV4(random() % kKeys, static_cast<uint16_t>(80 + random() % 2));
                       CONNECTION_STATE state;
                       CONNECTION connection;

                       switch (random() % 6)
                       {
                       case 0:
                       case 1:
                           inserted += ConnectionTableInsert(&table_, &key, thread, DirectionOutbound, &state) ==
                                       STATUS_SUCCESS;
                           break;
                       case 2:
                           ended += ConnectionTableEnd(&table_, &key, &connection) ? 1 : 0;
                           break;
                       case 3:
                           ConnectionTableSetVerdict(&table_, &key, VerdictAccept);
                           break;
                       case 4:
                           if (ConnectionTableLookup(&table_, &key, &state))
                           {
                               EXPECT_LT(state.Verdict, VerdictCount);
                           }
                           break;
                       default:
                           if (ConnectionTableGet(&table_, &key, &connection))
                           {
                               EXPECT_EQ(memcmp(&connection.Key, &key, sizeof(key)), 0);
                           }
                       }
                   }
               });

    // Every insert that succeeded made one live connection, and every end that succeeded took one.
    uint64_t live = 0;
    for (uint32_t i = 0; i < kKeys; i++)
    {
        for (uint16_t port : {80, 81})
        {
            const CONNECTION_KEY key = KeyV4(i, port);
            CONNECTION_STATE state;

            live += ConnectionTableLookup(&table_, &key, &state) && !state.Ended ? 1 : 0;
        }
    }
    EXPECT_EQ(inserted - ended, live);
    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 80).size() + EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 81).size(),
              live);
}

TEST_F(ConnectionTableTest, SurvivesEverythingAtOnce)
{
    std::atomic<uint64_t> visited{0};
    std::atomic<uint64_t> ended{0};
    std::atomic<uint64_t> inserted{0};

    RunThreads(4,
               [&](unsigned thread)
               {
                   std::mt19937 random(thread + 100);

                   for (unsigned i = 0; i < 6000; i++)
                   {
                       const CONNECTION_KEY key = KeyV4(random() % 5000, static_cast<uint16_t>(1 + random() % 4));
                       CONNECTION_STATE state;
                       CONNECTION connection;

                       if (thread == 0 && i % 500 == 499)
                       {
                           i % 1000 == 999 ? ConnectionTableClear(&table_) : (void)ConnectionTableClean(&table_, TRUE);
                       }
                       else if (thread == 1 && i % 50 == 49)
                       {
                           const CONNECTION_RELEASE release = Release(PROTOCOL_TCP, 4, kAnyAddress, key.LocalPort);

                           ConnectionTableEndByPort(
                               &table_, &release, [](void *context, const CONNECTION *)
                               { ++*static_cast<std::atomic<uint64_t> *>(context); }, &visited);
                       }
                       else if (random() % 3 == 0)
                       {
                           ended += ConnectionTableEnd(&table_, &key, &connection) ? 1 : 0;
                       }
                       else
                       {
                           inserted +=
                               ConnectionTableInsert(&table_, &key, 1, DirectionInbound, &state) == STATUS_SUCCESS;
                           (void)ConnectionTableLookup(&table_, &key, &state);
                       }
                   }
               });
    EXPECT_LE(visited + ended, inserted);
    EXPECT_GT(visited, 0u);
    ConnectionTableClear(&table_);
    EXPECT_EQ(ConnectionTableCount(&table_), 0u);
    for (uint16_t port = 1; port <= 4; port++)
    {
        EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, port).size(), 0u);
    }
}

} // namespace
