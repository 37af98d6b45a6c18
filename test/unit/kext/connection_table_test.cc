#include "connection_ports.h"
#include "connection_table.h"

#include "connection_keys.h"
#include "kext_test.h"

#include <algorithm>
#include <functional>
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
    ConnectionTableTest() { EXPECT_EQ(ConnectionTableInitialize(&table_, &memory_, &clock_, 1 << 20), STATUS_SUCCESS); }
    ~ConnectionTableTest() override { ConnectionTableUninitialize(&table_); }

    NTSTATUS Insert(const CONNECTION_KEY &key, UINT64 processId = 1, UINT8 direction = DirectionOutbound)
    {
        CONNECTION_STATE state;

        return ConnectionTableFindOrInsert(&table_, &key, processId, direction, &state);
    }

    bool Find(const CONNECTION_KEY &key)
    {
        CONNECTION_STATE state;

        return ConnectionTableLookup(&table_, &key, &state);
    }

    CONNECTION_STATE State(const CONNECTION_KEY &key)
    {
        CONNECTION_STATE state = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0};

        EXPECT_TRUE(ConnectionTableLookup(&table_, &key, &state));
        return state;
    }

    // Inserts a TCP connect as ALE sees it first.
    NTSTATUS InsertConnect(const CONNECTION_KEY &key, UINT64 process = 0)
    {
        const NTSTATUS status = Insert(key, process);

        ConnectionTableSetConnecting(&table_, &key, State(key).Generation, 0);
        return status;
    }

    bool SetVerdict(const CONNECTION_KEY &key, UINT8 verdict)
    {
        CONNECTION_STATE state;

        return ConnectionTableSetVerdict(&table_, &key, verdict, &state);
    }

    void SetReported(const CONNECTION_KEY &key) { ConnectionTableSetReported(&table_, &key, State(key).Generation, 1); }

    bool End(const CONNECTION_KEY &key)
    {
        CONNECTION ended;

        return ConnectionTableEnd(&table_, &key, 0, &ended);
    }

    struct Visit
    {
        CONNECTION_TABLE *table;
        std::vector<CONNECTION> ended;
    };

    static VOID EndVisited(void *context, const CONNECTION *connection)
    {
        auto *visit = static_cast<Visit *>(context);
        CONNECTION ended;

        if (ConnectionTableEnd(visit->table, &connection->Key, connection->State.Generation, &ended))
        {
            visit->ended.push_back(ended);
        }
    }

    static VOID Call(void *visit, const CONNECTION *) { (*static_cast<std::function<void()> *>(visit))(); }

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
        Visit visit{&table_, {}};

        ConnectionPortsVisitPort(&table_, &release, EndVisited, &visit);
        return visit.ended;
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
    for (const CONNECTION_KEY &key : {KeyV4(1), KeyV6(1)})
    {
        ASSERT_EQ(Insert(key), STATUS_SUCCESS);
        for (size_t byte = 0; byte < offsetof(CONNECTION_KEY, Reserved); byte++)
        {
            CONNECTION_KEY other = key;

            if (key.IpVersion == 4 && byte < 32 && byte % 16 >= 4)
            {
                continue; // not a part of an IPv4 address
            }
            reinterpret_cast<UINT8 *>(&other)[byte] ^= byte == offsetof(CONNECTION_KEY, IpVersion) ? 4 ^ 6 : 1;
            EXPECT_FALSE(Find(other)) << byte;
        }
    }
}

TEST_F(ConnectionTableTest, ALookupReturnsAllThatIsKnown)
{
    const CONNECTION_KEY key = KeyV6(5);
    CONNECTION_STATE state;

    ASSERT_EQ(Insert(key, 99, DirectionInbound), STATUS_SUCCESS);
    ASSERT_TRUE(SetVerdict(key, VerdictPermanentBlock));
    SetReported(key);
    ASSERT_TRUE(ConnectionTableLookup(&table_, &key, &state));
    EXPECT_EQ(state.ProcessId, 99u);
    EXPECT_EQ(state.Verdict, VerdictPermanentBlock);
    EXPECT_EQ(state.Direction, DirectionInbound);
    EXPECT_FALSE(state.Ended);
    EXPECT_TRUE(state.Reported);

    const CONNECTION_KEY unknown = KeyV6(6);
    EXPECT_FALSE(ConnectionTableLookup(&table_, &unknown, &state));
}

TEST_F(ConnectionTableTest, ALiveConnectionIsFoundInsteadOfInserted)
{
    const CONNECTION_KEY key = KeyV4(1);
    CONNECTION_STATE found;

    ASSERT_EQ(Insert(key, 1, DirectionInbound), STATUS_SUCCESS);
    ASSERT_TRUE(SetVerdict(key, VerdictAccept));
    EXPECT_EQ(ConnectionTableFindOrInsert(&table_, &key, 2, DirectionOutbound, &found), STATUS_OBJECT_NAME_EXISTS);
    EXPECT_EQ(found.Verdict, VerdictAccept);
    EXPECT_EQ(found.Direction, DirectionInbound);
    EXPECT_EQ(found.ProcessId, 1u) << "it has a process already";
    EXPECT_EQ(ConnectionTableCount(&table_), 1u);
}

TEST_F(ConnectionTableTest, AConnectionWithoutAProcessAdoptsThatOfWhoFindsIt)
{
    const CONNECTION_KEY key = KeyV6(1);

    ASSERT_EQ(Insert(key, 0), STATUS_SUCCESS);
    EXPECT_EQ(State(key).ProcessId, 0u);
    EXPECT_EQ(Insert(key, 0), STATUS_OBJECT_NAME_EXISTS);
    EXPECT_EQ(State(key).ProcessId, 0u);
    EXPECT_EQ(Insert(key, 7), STATUS_OBJECT_NAME_EXISTS);
    EXPECT_EQ(State(key).ProcessId, 7u);
    EXPECT_EQ(Insert(key, 8), STATUS_OBJECT_NAME_EXISTS);
    EXPECT_EQ(State(key).ProcessId, 7u);
}

TEST_F(ConnectionTableTest, FindingALiveConnectionMarksItAsUsed)
{
    ASSERT_EQ(Insert(KeyV4(1)), STATUS_SUCCESS);
    Advance(500s);
    ASSERT_EQ(Insert(KeyV4(1)), STATUS_OBJECT_NAME_EXISTS);
    Advance(500s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 0u);
}

TEST_F(ConnectionTableTest, APortUsedAgainIsANewConnection)
{
    const CONNECTION_KEY key = KeyV4(1, 5000);
    CONNECTION_STATE state;

    ASSERT_EQ(Insert(key, 1, DirectionInbound), STATUS_SUCCESS);
    ASSERT_TRUE(SetVerdict(key, VerdictPermanentBlock));
    SetReported(key);
    ASSERT_TRUE(End(key));
    ASSERT_EQ(Insert(key, 2, DirectionOutbound), STATUS_SUCCESS);

    ASSERT_TRUE(ConnectionTableLookup(&table_, &key, &state));
    EXPECT_EQ(state.ProcessId, 2u);
    EXPECT_EQ(state.Verdict, VerdictUndecided);
    EXPECT_EQ(state.Direction, DirectionOutbound);
    EXPECT_FALSE(state.Ended);
    EXPECT_FALSE(state.Reported);
    EXPECT_EQ(ConnectionTableCount(&table_), 1u);
    ConnectionTableSetConnecting(&table_, &key, state.Generation, 0);
    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 5000).size(), 1u) << "it is listed by port again";
}

TEST_F(ConnectionTableTest, OnlyLiveConnectionsCanBeChanged)
{
    const CONNECTION_KEY key = KeyV4(1);
    CONNECTION_STATE state;

    EXPECT_FALSE(SetVerdict(key, VerdictAccept));
    ASSERT_EQ(Insert(key, 7), STATUS_SUCCESS);
    ASSERT_TRUE(End(key));
    EXPECT_FALSE(SetVerdict(key, VerdictAccept));
    ASSERT_TRUE(ConnectionTableLookup(&table_, &key, &state));
    EXPECT_EQ(state.ProcessId, 7u);
    EXPECT_EQ(state.Verdict, VerdictUndecided);
}

TEST_F(ConnectionTableTest, OnlyALiveConnectionOfTheSameGenerationBecomesReported)
{
    const CONNECTION_KEY key = KeyV4(1);

    ASSERT_EQ(Insert(key, 9), STATUS_SUCCESS);
    const UINT32 first = State(key).Generation;
    ASSERT_TRUE(End(key));
    ConnectionTableSetReported(&table_, &key, first, 1);
    EXPECT_FALSE(State(key).Reported) << "it ended before";

    ASSERT_EQ(Insert(key, 9), STATUS_SUCCESS);
    ConnectionTableSetReported(&table_, &key, first, 1);
    EXPECT_FALSE(State(key).Reported) << "its predecessor was reported";
    ConnectionTableSetReported(&table_, &key, State(key).Generation, 1);
    EXPECT_TRUE(State(key).Reported);
}

TEST_F(ConnectionTableTest, AnEndOfAnotherGenerationEndsNothing)
{
    const CONNECTION_KEY key = KeyV4(1);
    CONNECTION ended;

    ASSERT_EQ(Insert(key, 9), STATUS_SUCCESS);
    const UINT32 first = State(key).Generation;
    ASSERT_TRUE(ConnectionTableEnd(&table_, &key, first, &ended));
    ASSERT_EQ(Insert(key, 9), STATUS_SUCCESS);
    EXPECT_FALSE(ConnectionTableEnd(&table_, &key, first, &ended));
    EXPECT_FALSE(State(key).Ended);
}

TEST_F(ConnectionTableTest, OnlyALiveConnectionIsCopied)
{
    const CONNECTION_KEY key = KeyV6(1);
    CONNECTION connection;

    EXPECT_FALSE(ConnectionTableCopyLive(&table_, &key, &connection));
    ASSERT_EQ(Insert(key, 9, DirectionInbound), STATUS_SUCCESS);
    ASSERT_TRUE(ConnectionTableCopyLive(&table_, &key, &connection));
    EXPECT_TRUE(connection.Key == key);
    EXPECT_EQ(connection.State.ProcessId, 9u);
    EXPECT_EQ(connection.State.Generation, State(key).Generation);
    ASSERT_TRUE(End(key));
    EXPECT_FALSE(ConnectionTableCopyLive(&table_, &key, &connection));
}

TEST_F(ConnectionTableTest, EachKeyHasOneOrderLock)
{
    const CONNECTION_KEY keys[] = {KeyV4(1), KeyV4(2), KeyV6(1)};

    for (const CONNECTION_KEY &key : keys)
    {
        EXPECT_EQ(ConnectionTableOrder(&table_, &key), ConnectionTableOrder(&table_, &key));
    }
}

TEST_F(ConnectionTableTest, GenerationsTellConnectionsOfOneKeyApart)
{
    const CONNECTION_KEY key = KeyV4(1);
    CONNECTION_STATE first;
    CONNECTION_STATE second;
    CONNECTION_STATE found;

    ASSERT_EQ(ConnectionTableFindOrInsert(&table_, &key, 1, DirectionOutbound, &first), STATUS_SUCCESS);
    EXPECT_EQ(ConnectionTableFindOrInsert(&table_, &key, 1, DirectionOutbound, &found), STATUS_OBJECT_NAME_EXISTS);
    EXPECT_EQ(found.Generation, first.Generation);
    ASSERT_TRUE(End(key));
    EXPECT_FALSE(ConnectionTableResolvePending(&table_, &key, first.Generation, VerdictAccept)) << "ended";
    ASSERT_EQ(ConnectionTableFindOrInsert(&table_, &key, 1, DirectionOutbound, &second), STATUS_SUCCESS);
    EXPECT_NE(first.Generation, 0u);
    EXPECT_NE(second.Generation, first.Generation);
    EXPECT_EQ(second.Verdict, VerdictUndecided);

    EXPECT_FALSE(ConnectionTableResolvePending(&table_, &key, first.Generation, VerdictPermanentAccept));
    EXPECT_FALSE(ConnectionTableResolvePending(&table_, &key, 0, VerdictPermanentAccept));
    EXPECT_EQ(State(key).Verdict, VerdictUndecided);
    ConnectionTableAddPending(&table_, &key, second.Generation, 0);
    EXPECT_TRUE(ConnectionTableResolvePending(&table_, &key, second.Generation, VerdictDrop));
    EXPECT_EQ(State(key).Verdict, VerdictDrop);
    EXPECT_EQ(State(key).Generation, second.Generation);
}

TEST_F(ConnectionTableTest, AVerdictEndsOneWaitOfItsConnection)
{
    const CONNECTION_KEY key = KeyV6(1);
    CONNECTION_STATE state;

    ASSERT_EQ(ConnectionTableFindOrInsert(&table_, &key, 1, DirectionOutbound, &state), STATUS_SUCCESS);
    ConnectionTableAddPending(&table_, &key, state.Generation, 0);
    ConnectionTableAddPending(&table_, &key, state.Generation, 0);
    EXPECT_TRUE(ConnectionTableResolvePending(&table_, &key, state.Generation, VerdictAccept));
    ASSERT_TRUE(End(key));
    Advance(3600s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 0u);
    EXPECT_FALSE(ConnectionTableResolvePending(&table_, &key, state.Generation, VerdictBlock));
    EXPECT_EQ(State(key).Verdict, VerdictAccept) << "an ended connection keeps its verdict";
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 1u);
}

TEST_F(ConnectionTableTest, EndsOnceOnly)
{
    const CONNECTION_KEY key = KeyV4(3);
    CONNECTION ended;

    EXPECT_FALSE(ConnectionTableEnd(&table_, &key, 0, &ended));
    ASSERT_EQ(Insert(key, 12, DirectionInbound), STATUS_SUCCESS);
    SetReported(key);
    ASSERT_TRUE(ConnectionTableEnd(&table_, &key, 0, &ended));
    EXPECT_EQ(memcmp(&ended.Key, &key, sizeof(key)), 0);
    EXPECT_EQ(ended.State.ProcessId, 12u);
    EXPECT_TRUE(ended.State.Ended);
    EXPECT_TRUE(ended.State.Reported);
    EXPECT_FALSE(ConnectionTableEnd(&table_, &key, 0, &ended));
    EXPECT_TRUE(State(key).Ended);
}

TEST_F(ConnectionTableTest, HoldsItsMaximumAndNoMoreWhileQuestionsWait)
{
    CONNECTION_TABLE table;
    CONNECTION_STATE state;
    CONNECTION ended;

    ASSERT_EQ(ConnectionTableInitialize(&table, &memory_, &clock_, 100), STATUS_SUCCESS);
    for (uint32_t i = 0; i < 100; i++)
    {
        const CONNECTION_KEY key = KeyV4(i);

        ASSERT_EQ(ConnectionTableFindOrInsert(&table, &key, 1, DirectionOutbound, &state), STATUS_SUCCESS);
        ConnectionTableAddPending(&table, &key, state.Generation, 1);
    }
    CONNECTION_KEY key = KeyV4(100);
    EXPECT_EQ(ConnectionTableFindOrInsert(&table, &key, 1, DirectionOutbound, &state), STATUS_CONNECTION_COUNT_LIMIT);
    EXPECT_EQ(ConnectionTableCount(&table), 100u);

    // One that ended can still be replaced.
    key = KeyV4(50);
    ASSERT_TRUE(ConnectionTableEnd(&table, &key, 0, &ended));
    EXPECT_EQ(ConnectionTableFindOrInsert(&table, &key, 1, DirectionOutbound, &state), STATUS_SUCCESS);
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
        CONNECTION_STATE state;

        ASSERT_TRUE(ConnectionTableLookup(&table_, &key, &state));
        ASSERT_EQ(state.ProcessId, i);
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
        const uint32_t n = random() % 3000;
        const uint16_t port = static_cast<uint16_t>(1 + random() % 3);
        const CONNECTION_KEY key = random() % 2 ? KeyV4(n, port) : KeyV6(n, port);
        auto found = model.find(key);
        const bool live = found != model.end() && !found->second.ended;

        switch (random() % 8)
        {
        case 0:
        case 1:
        case 2:
        {
            const uint64_t process = random() % 4;

            ASSERT_EQ(Insert(key, process), live ? STATUS_OBJECT_NAME_EXISTS : STATUS_SUCCESS);
            if (!live)
            {
                model[key] = Expected();
            }
            if (model[key].process == 0)
            {
                model[key].process = process;
            }
            break;
        }
        case 3:
        {
            const UINT8 verdict = static_cast<UINT8>(random() % VerdictCount);

            ASSERT_EQ(SetVerdict(key, verdict), live);
            if (live)
            {
                found->second.verdict = verdict;
            }
            break;
        }
        case 4:
            if (live)
            {
                SetReported(key);
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
                ASSERT_EQ(ConnectionTableClean(&table_, FALSE, nullptr), before - model.size());
            }
            break;
        default:
        {
            CONNECTION_STATE state;

            ASSERT_EQ(ConnectionTableLookup(&table_, &key, &state), found != model.end());
            if (found != model.end())
            {
                ASSERT_EQ(state.Verdict, found->second.verdict);
                ASSERT_EQ(state.Ended, found->second.ended);
                ASSERT_EQ(state.Reported, found->second.reported);
                ASSERT_EQ(state.ProcessId, found->second.process);
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
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 0u);
    EXPECT_TRUE(Find(KeyV4(1)));
    Advance(1s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 1u);
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
        EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 0u) << part;
        Advance(1s);
        EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 1u) << part;
    }
}

TEST_F(ConnectionTableTest, LookingUpAnEndedConnectionDoesNotKeepIt)
{
    ASSERT_EQ(Insert(KeyV4(1)), STATUS_SUCCESS);
    ASSERT_TRUE(End(KeyV4(1)));
    Advance(40s);
    EXPECT_TRUE(Find(KeyV4(1)));
    Advance(21s);
    EXPECT_EQ(ConnectionTableClean(&table_, FALSE, nullptr), 1u);
}

TEST_F(ConnectionTableTest, CleansLiveConnectionsAfterTenIdleMinutesOnlyWhenAsked)
{
    ASSERT_EQ(Insert(KeyV4(1)), STATUS_SUCCESS);
    ASSERT_EQ(Insert(KeyV4(2)), STATUS_SUCCESS);
    Advance(300s);
    EXPECT_TRUE(Find(KeyV4(2))); // a packet
    Advance(301s);
    EXPECT_EQ(ConnectionTableClean(&table_, FALSE, nullptr), 0u);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 1u);
    EXPECT_FALSE(Find(KeyV4(1)));
    EXPECT_TRUE(Find(KeyV4(2)));
    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, KeyV4(1).LocalPort).size(), 0u);
}

TEST_F(ConnectionTableTest, ATcpConnectionThatAleAuthorizedIsNeverRemovedForIdleness)
{
    const CONNECTION_KEY authorized = KeyV4(1);
    const CONNECTION_KEY established = KeyV6(2);
    const CONNECTION_KEY datagrams = KeyV4(3, 80, PROTOCOL_UDP);
    UINT32 wait = 0;

    for (const CONNECTION_KEY &key : {authorized, established, datagrams})
    {
        ASSERT_EQ(Insert(key), STATUS_SUCCESS);
    }
    ConnectionTableSetAuthorized(&table_, &authorized, State(authorized).Generation);
    ConnectionTableSetAuthorized(&table_, &datagrams, State(datagrams).Generation);
    ConnectionTableSetEstablished(&table_, &established, 0);
    EXPECT_TRUE(State(established).Authorized);
    Advance(3600s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, &wait), 1u);
    EXPECT_EQ(wait, MAXUINT32) << "nothing is left to clean";
    EXPECT_FALSE(Find(datagrams));

    ASSERT_TRUE(End(authorized));
    Advance(61s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 1u);
    EXPECT_TRUE(Find(established));
}

TEST_F(ConnectionTableTest, CleaningReportsWhenTheNextConnectionMayBeRemoved)
{
    UINT32 wait = 0;

    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, &wait), 0u);
    EXPECT_EQ(wait, MAXUINT32);
    ASSERT_EQ(Insert(KeyV4(1)), STATUS_SUCCESS);
    Advance(100s);
    EXPECT_EQ(ConnectionTableClean(&table_, FALSE, &wait), 0u);
    EXPECT_EQ(wait, MAXUINT32) << "only ended connections were asked for";
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, &wait), 0u);
    EXPECT_EQ(wait, 501u);
    ASSERT_EQ(Insert(KeyV6(2)), STATUS_SUCCESS);
    ASSERT_TRUE(End(KeyV6(2)));
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, &wait), 0u);
    EXPECT_EQ(wait, 61u);
    Advance(61s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, &wait), 1u);
    EXPECT_EQ(wait, 440u);
}

const CONNECTION_KEY kOne = KeyV4(1);
const CONNECTION_KEY kTwo = KeyV4(2);

TEST_F(ConnectionTableTest, KeepsAConnectionUntilNothingOfItIsPending)
{
    CONNECTION_STATE ended;
    CONNECTION_STATE idle;
    ASSERT_EQ(ConnectionTableFindOrInsert(&table_, &kOne, 0, DirectionOutbound, &ended), STATUS_SUCCESS);
    ASSERT_EQ(ConnectionTableFindOrInsert(&table_, &kTwo, 0, DirectionOutbound, &idle), STATUS_SUCCESS);
    ASSERT_TRUE(End(kOne));
    ConnectionTableAddPending(&table_, &kOne, ended.Generation, 0);
    ConnectionTableAddPending(&table_, &kOne, ended.Generation, 0);
    ConnectionTableAddPending(&table_, &kTwo, idle.Generation, 0);
    Advance(3600s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 0u);

    ConnectionTableReleasePending(&table_, &kOne, ended.Generation);
    ConnectionTableReleasePending(&table_, &kTwo, idle.Generation);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 0u) << "the time of a held packet is no idle time";
    Advance(601s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 1u);
    ConnectionTableReleasePending(&table_, &kOne, ended.Generation);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 1u);
}

TEST_F(ConnectionTableTest, APendingPacketOfAnEarlierConnectionDoesNotKeepItsSuccessor)
{
    CONNECTION_STATE first;
    CONNECTION_STATE second;
    ASSERT_EQ(ConnectionTableFindOrInsert(&table_, &kOne, 0, DirectionOutbound, &first), STATUS_SUCCESS);
    ConnectionTableAddPending(&table_, &kOne, first.Generation, 0);
    ASSERT_TRUE(End(kOne));
    ASSERT_EQ(ConnectionTableFindOrInsert(&table_, &kOne, 0, DirectionOutbound, &second), STATUS_SUCCESS);
    ConnectionTableAddPending(&table_, &kOne, second.Generation, 0);
    ConnectionTableReleasePending(&table_, &kOne, first.Generation);
    Advance(3600s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 0u);
    ConnectionTableReleasePending(&table_, &kOne, second.Generation);
    Advance(601s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 1u);
}

TEST_F(ConnectionTableTest, ClearCacheMakesPendingConnectionsUndecidedAndRemovesTheRest)
{
    CONNECTION_STATE state;
    ASSERT_EQ(ConnectionTableFindOrInsert(&table_, &kOne, 0, DirectionOutbound, &state), STATUS_SUCCESS);
    ASSERT_EQ(Insert(kTwo), STATUS_SUCCESS);
    ASSERT_TRUE(SetVerdict(kOne, VerdictPermanentAccept));
    ConnectionTableAddPending(&table_, &kOne, state.Generation, 0);
    ConnectionTableClearCache(&table_);
    EXPECT_FALSE(Find(kTwo));
    ASSERT_TRUE(ConnectionTableLookup(&table_, &kOne, &state));
    EXPECT_EQ(state.Verdict, VerdictUndecided);

    ConnectionTableReleasePending(&table_, &kOne, state.Generation);
    ConnectionTableClearCache(&table_);
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
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 1u);
    EXPECT_FALSE(Find(KeyV4(2)));
    EXPECT_TRUE(Find(KeyV4(1)));
    Advance(601s);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 1u);
}

TEST_F(ConnectionTableTest, CleaningGivesMemoryBack)
{
    const UINT64 empty = MemoryBytes(&memory_);

    for (uint32_t i = 0; i < 20000; i++)
    {
        ASSERT_EQ(InsertConnect(KeyV4(i, 80)), STATUS_SUCCESS);
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
    EXPECT_EQ(ConnectionTableClean(&table_, FALSE, nullptr), 19000u);
    EXPECT_LT(MemoryBytes(&memory_) - empty, (full - empty) / 5);
    for (uint32_t i = 0; i < 20000; i++)
    {
        ASSERT_EQ(Find(KeyV4(i, 80)), i % 20 == 0);
    }

    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 80).size(), 1000u);
    Advance(61s);
    EXPECT_EQ(ConnectionTableClean(&table_, FALSE, nullptr), 1000u);
    EXPECT_LT(MemoryBytes(&memory_) - empty, 8192u) << "only pages of the indexes stay";
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
    EXPECT_EQ(ConnectionTableClean(&table_, FALSE, nullptr), 19000u);
    machine_.faults().Stop();
    for (uint32_t i = 0; i < 20000; i += 20)
    {
        ASSERT_TRUE(Find(KeyV4(i)));
    }
}

TEST_F(ConnectionTableTest, RemoveAllRemovesEverything)
{
    for (uint32_t i = 0; i < 5000; i++)
    {
        ASSERT_EQ(InsertConnect(KeyV4(i, 443)), STATUS_SUCCESS);
    }
    ASSERT_TRUE(End(KeyV4(7, 443)));
    ConnectionTableRemoveAll(&table_);
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
        ASSERT_EQ(InsertConnect(key), STATUS_SUCCESS);
    }
    for (const CONNECTION_KEY &key : others)
    {
        ASSERT_EQ(InsertConnect(key), STATUS_SUCCESS);
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
    EXPECT_EQ(EndByPort(132, 4, kAnyAddress, 5000).size(), 0u) << "a protocol without ports gives none up";
    EXPECT_EQ(EndByPort(PROTOCOL_UDP, 6, kAnyAddress, 5000).size(), 1u);
}

TEST_F(ConnectionTableTest, EndsByLocalAddressWhenThereIsOne)
{
    CONNECTION_KEY here = KeyV4(1, 5000);
    CONNECTION_KEY there = KeyV4(2, 5000);

    there.LocalAddress[3] = 9;
    ASSERT_EQ(InsertConnect(here), STATUS_SUCCESS);
    ASSERT_EQ(InsertConnect(there), STATUS_SUCCESS);
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
        ASSERT_EQ(InsertConnect(KeyV4(i, 443), i), STATUS_SUCCESS);
    }
    for (const CONNECTION &connection : EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 443))
    {
        EXPECT_TRUE(connection.State.Ended);
        EXPECT_TRUE(seen.insert(connection.Key).second);
    }
    EXPECT_EQ(seen.size(), kCount);
}

TEST_F(ConnectionTableTest, PortZeroAndThePortsAtTheEdgesAreListed)
{
    for (uint16_t port : {1, 255, 256, 32767, 65535})
    {
        ASSERT_EQ(InsertConnect(KeyV4(1, port)), STATUS_SUCCESS);
        EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, port).size(), 1u) << port;
    }
    CONNECTION_KEY none = KeyV4(1, 1);
    none.LocalPort = 0;
    ASSERT_EQ(InsertConnect(none), STATUS_SUCCESS);
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
            CONNECTION_STATE state;
            CONNECTION ended;

            visit->calls++;
            EXPECT_TRUE(ConnectionTableEnd(visit->table, &connection->Key, connection->State.Generation, &ended));
            EXPECT_EQ(ConnectionTableFindOrInsert(visit->table, &connection->Key, 9, DirectionInbound, &state),
                      STATUS_SUCCESS);
        }
    } visit = {&table_};

    for (uint32_t i = 0; i < 100; i++)
    {
        ASSERT_EQ(InsertConnect(KeyV4(i, 443)), STATUS_SUCCESS);
    }
    const CONNECTION_RELEASE release = Release(PROTOCOL_TCP, 4, kAnyAddress, 443);
    ConnectionPortsVisitPort(&table_, &release, Visit::Replace, &visit);
    EXPECT_EQ(visit.calls, 100u) << "what the visitor adds is not visited by the same call";
    EXPECT_FALSE(State(KeyV4(1, 443)).Ended);
}

// A walk of a port collects 16 connections at a time. The next one may end before the walk goes on with it.
TEST_F(ConnectionTableTest, AVisitOfAPortGoesOnBehindConnectionsThatEndMeanwhile)
{
    unsigned calls = 0;
    std::function<void()> visit = [&]
    {
        for (uint32_t i = 20; calls == 0 && i < 40; i++)
        {
            EXPECT_TRUE(End(KeyV4(i, 443)));
        }
        calls++;
    };

    for (uint32_t i = 0; i < 50; i++)
    {
        ASSERT_EQ(InsertConnect(KeyV4(i, 443)), STATUS_SUCCESS);
    }
    const CONNECTION_RELEASE release = Release(PROTOCOL_TCP, 4, kAnyAddress, 443);
    ConnectionPortsVisitPort(&table_, &release, Call, &visit);
    EXPECT_EQ(calls, 10u + 20u) << "the newest 10, and the oldest 20";
    EXPECT_EQ(EndByPort(release).size(), 30u);
}

TEST_F(ConnectionTableTest, TwoVisitsOfAPortGoOnBehindConnectionsThatEndMeanwhile)
{
    const CONNECTION_RELEASE release = Release(PROTOCOL_TCP, 4, kAnyAddress, 443);
    unsigned inner_calls = 0;
    unsigned outer_calls = 0;
    std::function<void()> inner = [&]
    {
        for (uint32_t i = 20; inner_calls == 0 && i < 34; i++)
        {
            EXPECT_TRUE(End(KeyV4(i, 443)));
        }
        inner_calls++;
    };
    std::function<void()> outer = [&]
    {
        if (outer_calls++ == 0)
        {
            ConnectionPortsVisitPort(&table_, &release, Call, &inner);
        }
    };

    for (uint32_t i = 0; i < 50; i++)
    {
        ASSERT_EQ(InsertConnect(KeyV4(i, 443)), STATUS_SUCCESS);
    }
    ConnectionPortsVisitPort(&table_, &release, Call, &outer);
    EXPECT_EQ(inner_calls, 16u + 20u) << "the newest 16, and the oldest 20";
    EXPECT_EQ(outer_calls, 16u + 20u);
    EXPECT_EQ(EndByPort(release).size(), 36u);
}

// Cleaning moves what only the end of a connection needs. The lists of the ports lead through that.
TEST_F(ConnectionTableTest, AVisitOfAPortGoesOnAfterTheTableHasMovedItsConnections)
{
    unsigned calls = 0;
    std::function<void()> visit = [&]
    {
        if (calls++ == 0)
        {
            const UINT64 before = ConnectionTableBytes(&table_);

            EXPECT_GT(ConnectionTableClean(&table_, FALSE, nullptr), 19000u);
            EXPECT_LT(ConnectionTableBytes(&table_), before / 2);
        }
    };

    for (uint32_t i = 0; i < 20000; i++)
    {
        ASSERT_EQ(InsertConnect(KeyV4(i, i % 200 == 0 ? 443 : 9)), STATUS_SUCCESS);
    }
    for (uint32_t i = 0; i < 20000; i++)
    {
        EXPECT_TRUE(i % 200 == 0 || End(KeyV4(i, 9)));
    }
    Advance(62s);
    const CONNECTION_RELEASE release = Release(PROTOCOL_TCP, 4, kAnyAddress, 443);
    ConnectionPortsVisitPort(&table_, &release, Call, &visit);
    EXPECT_EQ(calls, 100u);
    EXPECT_EQ(EndByPort(release).size(), 100u);
}

TEST_F(ConnectionTableTest, APortReleasedByOneProcessKeepsTheConnectionsOfOthers)
{
    CONNECTION_RELEASE release = Release(PROTOCOL_TCP, 4, kAnyAddress, 443);

    ASSERT_EQ(InsertConnect(KeyV4(1, 443), 7), STATUS_SUCCESS);
    ASSERT_EQ(InsertConnect(KeyV4(2, 443), 8), STATUS_SUCCESS);
    ASSERT_EQ(InsertConnect(KeyV4(3, 443), 0), STATUS_SUCCESS);
    release.ProcessId = 7;
    EXPECT_EQ(EndByPort(release).size(), 2u);
    EXPECT_FALSE(State(KeyV4(2, 443)).Ended);
    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 443).size(), 1u);
}

TEST_F(ConnectionTableTest, APortOfTcpEndsOnlyConnectsThatNeverCameUp)
{
    const CONNECTION_KEY connecting = KeyV4(1, 443);
    const CONNECTION_KEY established = KeyV4(2, 443);
    const CONNECTION_KEY accepted = KeyV4(3, 443);
    const CONNECTION_KEY older = KeyV4(4, 443);
    const CONNECTION_KEY stray = KeyV4(5, 443);

    ASSERT_EQ(InsertConnect(connecting, 7), STATUS_SUCCESS);
    ASSERT_EQ(InsertConnect(established, 7), STATUS_SUCCESS);
    ConnectionTableSetEstablished(&table_, &established, 0);
    ASSERT_EQ(Insert(accepted, 7, DirectionInbound), STATUS_SUCCESS);
    ASSERT_EQ(Insert(older, 7), STATUS_SUCCESS);
    ASSERT_EQ(Insert(stray, 0), STATUS_SUCCESS);

    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 443).size(), 2u);
    EXPECT_TRUE(State(connecting).Ended);
    EXPECT_TRUE(State(stray).Ended) << "ALE does not know it";
    for (const CONNECTION_KEY &key : {established, accepted, older})
    {
        EXPECT_FALSE(State(key).Ended);
    }
}

TEST_F(ConnectionTableTest, APortOfTcpEndsOnlyTheConnectsOfItsSocket)
{
    const CONNECTION_KEY mine = KeyV4(1, 443);
    const CONNECTION_KEY other = KeyV4(2, 443);
    const CONNECTION_KEY unknown = KeyV4(3, 443);
    CONNECTION_RELEASE release = Release(PROTOCOL_TCP, 4, kAnyAddress, 443);

    for (const CONNECTION_KEY &key : {mine, other, unknown})
    {
        ASSERT_EQ(InsertConnect(key, 7), STATUS_SUCCESS);
    }
    ConnectionTableSetConnecting(&table_, &mine, State(mine).Generation, 100);
    ConnectionTableSetConnecting(&table_, &other, State(other).Generation, 200);
    release.EndpointHandle = 100;
    EXPECT_EQ(EndByPort(release).size(), 2u);
    EXPECT_FALSE(State(other).Ended);
    release.EndpointHandle = 0;
    EXPECT_EQ(EndByPort(release).size(), 1u) << "a release that names no socket is of any socket";
}

TEST_F(ConnectionTableTest, OnlyTheFlowOfALiveConnectionThatIsBlockedForGoodIsTakenAndOnce)
{
    const CONNECTION_KEY key = KeyV4(1, 443);
    UINT64 handle = 0;

    ASSERT_EQ(InsertConnect(key, 7), STATUS_SUCCESS);
    ConnectionTableSetConnecting(&table_, &key, State(key).Generation, 100);
    ASSERT_TRUE(SetVerdict(key, VerdictPermanentBlock));
    EXPECT_FALSE(ConnectionTableTakeBlockedFlow(&table_, &key, &handle)) << "it has not come up";
    ConnectionTableSetEstablished(&table_, &key, 5);
    ASSERT_TRUE(SetVerdict(key, VerdictBlock));
    EXPECT_FALSE(ConnectionTableTakeBlockedFlow(&table_, &key, &handle));
    ASSERT_TRUE(SetVerdict(key, VerdictPermanentBlock));
    EXPECT_FALSE(State(key).Aborted);
    ASSERT_TRUE(ConnectionTableTakeBlockedFlow(&table_, &key, &handle));
    EXPECT_EQ(handle, 5u);
    EXPECT_TRUE(State(key).Aborted);
    EXPECT_FALSE(ConnectionTableTakeBlockedFlow(&table_, &key, &handle));

    const CONNECTION_KEY ended = KeyV6(2, 443);
    ASSERT_EQ(Insert(ended), STATUS_SUCCESS);
    ConnectionTableSetEstablished(&table_, &ended, 6);
    ASSERT_TRUE(SetVerdict(ended, VerdictPermanentBlock));
    ASSERT_TRUE(End(ended));
    EXPECT_FALSE(ConnectionTableTakeBlockedFlow(&table_, &ended, &handle));
}

TEST_F(ConnectionTableTest, AVerdictIsForgottenOnlyWhileItIsTheConnections)
{
    const CONNECTION_KEY key = KeyV4(1);

    ASSERT_EQ(Insert(key), STATUS_SUCCESS);
    const UINT32 generation = State(key).Generation;
    ASSERT_TRUE(SetVerdict(key, VerdictBlock));
    ConnectionTableForgetVerdict(&table_, &key, generation, VerdictDrop);
    EXPECT_EQ(State(key).Verdict, VerdictBlock);
    ConnectionTableForgetVerdict(&table_, &key, generation + 1, VerdictBlock);
    EXPECT_EQ(State(key).Verdict, VerdictBlock);
    ConnectionTableForgetVerdict(&table_, &key, generation, VerdictBlock);
    EXPECT_EQ(State(key).Verdict, VerdictUndecided);
}

TEST_F(ConnectionTableTest, ASuccessorIsNotConnectingUntilItsConnectBegins)
{
    const CONNECTION_KEY key = KeyV4(1, 443);

    ASSERT_EQ(InsertConnect(key, 7), STATUS_SUCCESS);
    const UINT32 first = State(key).Generation;
    ASSERT_TRUE(End(key));
    ASSERT_EQ(Insert(key, 7), STATUS_SUCCESS);
    ConnectionTableSetConnecting(&table_, &key, first, 0);
    EXPECT_EQ(EndByPort(PROTOCOL_TCP, 4, kAnyAddress, 443).size(), 0u);
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
        std::vector<unsigned> shards(SHARD_MAP_SHARDS);
        std::vector<unsigned> low(1024);

        for (const CONNECTION_KEY &key : family)
        {
            CONNECTION_PLACE place;

            ConnectionMapLocate(&table_.Connections, &key, &place);
            const UINT64 hash = place.In.Hash;

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
    CONNECTION_STATE state;
    uint32_t inserted = 0;

    ASSERT_EQ(ConnectionTableInitialize(&table, &memory_, &clock_, 1 << 20), STATUS_SUCCESS);
    // Cold parts for all. Then the only allocations of an insertion are the larger arrays.
    for (uint32_t i = 0; i < 32 * SLAB_STRIPE_COUNT; i++)
    {
        ASSERT_TRUE(SlabGrow(&table.ColdParts, i));
    }
    std::vector<CONNECTION_KEY> kept;
    for (uint32_t i = 0; i < 30000; i++)
    {
        const CONNECTION_KEY key = KeyV4(i, 443);

        if (i == 3000)
        {
            machine_.faults().FailAll();
        }
        NTSTATUS status = ConnectionTableFindOrInsert(&table, &key, 1, DirectionOutbound, &state);
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
    machine_.faults().Stop();
    EXPECT_EQ(ConnectionTableCount(&table), inserted);
    EXPECT_GT(inserted, 4096u) << "beyond the load at which shards like to grow";
    for (const CONNECTION_KEY &key : kept)
    {
        ASSERT_TRUE(ConnectionTableLookup(&table, &key, &state));
    }
    const CONNECTION_KEY unknown = KeyV4(999999, 443);
    EXPECT_FALSE(ConnectionTableLookup(&table, &unknown, &state)) << "also in a shard without an empty cell";

    // Removal from full arrays keeps the rest.
    CONNECTION ended;
    for (size_t i = 0; i < kept.size(); i += 2)
    {
        ASSERT_TRUE(ConnectionTableEnd(&table, &kept[i], 0, &ended));
    }
    Advance(61s);
    ConnectionTableClean(&table, FALSE, nullptr);
    for (size_t i = 0; i < kept.size(); i++)
    {
        ASSERT_EQ(ConnectionTableLookup(&table, &kept[i], &state), i % 2 != 0);
    }
    ConnectionTableUninitialize(&table);
}

TEST_F(ConnectionTableTest, AFailedInitializationLeavesNothing)
{
    const UINT64 before = MemoryBytes(&memory_);

    ForEachAllocationFailure(
        [&](unsigned n)
        {
            CONNECTION_TABLE table;
            const NTSTATUS status = ConnectionTableInitialize(&table, &memory_, &clock_, 1000);

            EXPECT_EQ(status, n < 5 ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS);
            if (NT_SUCCESS(status))
            {
                ConnectionTableUninitialize(&table);
            }
            EXPECT_EQ(MemoryBytes(&memory_), before);
        });
}

TEST_F(ConnectionTableTest, LookupsAndUpdatesAllocateNothing)
{
    const CONNECTION_KEY key = KeyV4(1);
    CONNECTION connection;
    CONNECTION_STATE state;

    ASSERT_EQ(Insert(key), STATUS_SUCCESS);
    machine_.faults().FailAll();
    EXPECT_TRUE(Find(key));
    EXPECT_TRUE(SetVerdict(key, VerdictAccept));
    EXPECT_EQ(Insert(key, 4), STATUS_OBJECT_NAME_EXISTS);
    SetReported(key);
    EXPECT_TRUE(ConnectionTableLookup(&table_, &key, &state));
    EXPECT_TRUE(ConnectionTableEnd(&table_, &key, 0, &connection));
    EXPECT_EQ(machine_.faults().calls(), 0u);
    machine_.faults().Stop();
}

TEST_F(ConnectionTableTest, WorksAtDispatchLevel)
{
    const CONNECTION_RELEASE release = Release(PROTOCOL_TCP, 4, kAnyAddress, 80);
    kext_test::AtDispatchLevel dispatch;

    ASSERT_EQ(Insert(KeyV4(1, 80)), STATUS_SUCCESS);
    EXPECT_TRUE(Find(KeyV4(1, 80)));
    EXPECT_EQ(EndByPort(release).size(), 0u);
    EXPECT_EQ(ConnectionTableClean(&table_, TRUE, nullptr), 0u);
    EXPECT_GT(ConnectionTableBytes(&table_), 0u);
    ConnectionTableRemoveAll(&table_);
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
                       const CONNECTION_KEY key =
                           KeyV4(random() % kKeys, static_cast<uint16_t>(80 + random() % 2), PROTOCOL_UDP);
                       CONNECTION_STATE state;
                       CONNECTION connection;

                       switch (random() % 6)
                       {
                       case 0:
                       case 1:
                           inserted += ConnectionTableFindOrInsert(&table_, &key, thread, DirectionOutbound, &state) ==
                                       STATUS_SUCCESS;
                           break;
                       case 2:
                           if (ConnectionTableEnd(&table_, &key, 0, &connection))
                           {
                               EXPECT_EQ(memcmp(&connection.Key, &key, sizeof(key)), 0);
                               ended++;
                           }
                           break;
                       case 3:
                           SetVerdict(key, VerdictAccept);
                           break;
                       case 4:
                           if (ConnectionTableLookup(&table_, &key, &state))
                           {
                               EXPECT_LT(state.Verdict, VerdictCount);
                           }
                           break;
                       default:
                           if (ConnectionTableLookup(&table_, &key, &state))
                           {
                               EXPECT_LT(state.ProcessId, 4u);
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
            const CONNECTION_KEY key = KeyV4(i, port, PROTOCOL_UDP);
            CONNECTION_STATE state;

            live += ConnectionTableLookup(&table_, &key, &state) && !state.Ended ? 1 : 0;
        }
    }
    EXPECT_EQ(inserted - ended, live);
    EXPECT_EQ(EndByPort(PROTOCOL_UDP, 4, kAnyAddress, 80).size() + EndByPort(PROTOCOL_UDP, 4, kAnyAddress, 81).size(),
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
                       const CONNECTION_KEY key =
                           KeyV4(random() % 5000, static_cast<uint16_t>(1 + random() % 4), PROTOCOL_UDP);
                       CONNECTION_STATE state;
                       CONNECTION connection;

                       if (thread == 0 && i % 500 == 499)
                       {
                           i % 1000 == 999 ? ConnectionTableRemoveAll(&table_)
                                           : (void)ConnectionTableClean(&table_, TRUE, nullptr);
                       }
                       else if (thread == 1 && i % 50 == 49)
                       {
                           const CONNECTION_RELEASE release = Release(PROTOCOL_UDP, 4, kAnyAddress, key.LocalPort);

                           visited += EndByPort(release).size();
                       }
                       else if (random() % 3 == 0)
                       {
                           ended += ConnectionTableEnd(&table_, &key, 0, &connection) ? 1 : 0;
                       }
                       else
                       {
                           inserted += ConnectionTableFindOrInsert(&table_, &key, 1, DirectionInbound, &state) ==
                                       STATUS_SUCCESS;
                           (void)ConnectionTableLookup(&table_, &key, &state);
                       }
                   }
               });
    EXPECT_LE(visited + ended, inserted);
    EXPECT_GT(visited, 0u);
    ConnectionTableRemoveAll(&table_);
    EXPECT_EQ(ConnectionTableCount(&table_), 0u);
    for (uint16_t port = 1; port <= 4; port++)
    {
        EXPECT_EQ(EndByPort(PROTOCOL_UDP, 4, kAnyAddress, port).size(), 0u);
    }
}

} // namespace
