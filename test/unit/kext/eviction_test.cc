// Which connection leaves the table when it is nearly full.

#include "connection_keys.h"
#include "connection_table.h"
#include "kext_test.h"

#include <map>
#include <random>
#include <set>

namespace
{

using kext_test::KeyV4;
using kext_test::KeyV6;
using namespace std::chrono_literals;

using Keys = std::set<CONNECTION_KEY, kext_test::KeyLess>;

struct Connect
{
    UINT64 process = 1;
    UINT8 direction = DirectionOutbound;
};

class EvictionTest : public kext_test::KextTest
{
  protected:
    EvictionTest() { Start(kSmall); }
    ~EvictionTest() override { ConnectionTableUninitialize(&table_); }

    // In a table as small as this, each search sees all connections.
    static constexpr uint32_t kSmall = 32;
    static constexpr uint32_t kSmallFill = 24;

    // A table in which owners have room for two connections each.
    static constexpr uint32_t kShared = 128;
    static constexpr uint32_t kSharedFill = 96;

    // With this key no two owners of a test share a counter.
    void Start(uint32_t max)
    {
        EXPECT_EQ(ConnectionTableInitialize(&table_, &memory_, &clock_, max), STATUS_SUCCESS);
        table_.Shares.HashKey = {{1, 2}};
    }

    void Restart(uint32_t max)
    {
        ConnectionTableUninitialize(&table_);
        Start(max);
    }

    NTSTATUS Insert(const CONNECTION_KEY &key, const Connect &connect = {})
    {
        CONNECTION_STATE state;

        return ConnectionTableFindOrInsert(&table_, &key, connect.process, connect.direction, &state);
    }

    // A copy leaves no mark of a use.
    bool Has(const CONNECTION_KEY &key)
    {
        CONNECTION_WALK walk = {};
        std::vector<CONNECTION> all(ConnectionTableCount(&table_) + 1);

        all.resize(ConnectionTableWalk(&table_, &walk, all.data(), static_cast<UINT32>(all.size())));
        return std::any_of(all.begin(), all.end(),
                           [&](const CONNECTION &each) { return ConnectionKeysEqual(&each.Key, &key) != 0; });
    }

    UINT32 Generation(const CONNECTION_KEY &key)
    {
        CONNECTION copy;

        EXPECT_TRUE(ConnectionTableCopyLive(&table_, &key, &copy));
        return copy.State.Generation;
    }

    void Packet(const CONNECTION_KEY &key, bool inbound = false)
    {
        CONNECTION_STATE state;

        EXPECT_TRUE(ConnectionTableLookupPacket(&table_, &key, inbound, &state));
    }

    // Inserts a connection that has grown.
    void InsertGrown(const CONNECTION_KEY &key, const Connect &connect = {})
    {
        ASSERT_TRUE(NT_SUCCESS(Insert(key, connect)));
        Packet(key);
        Packet(key);
    }

    void End(const CONNECTION_KEY &key)
    {
        CONNECTION ended;

        EXPECT_TRUE(ConnectionTableEnd(&table_, &key, 0, &ended));
    }

    void SetVerdict(const CONNECTION_KEY &key, UINT8 verdict)
    {
        CONNECTION_STATE state;

        EXPECT_TRUE(ConnectionTableSetVerdict(&table_, &key, verdict, &state));
    }

    void Refuse(const CONNECTION_KEY &key)
    {
        ConnectionTableSetConnecting(&table_, &key, Generation(key), 0);
        SetVerdict(key, VerdictPermanentBlock);
    }

    void Wait(const CONNECTION_KEY &key) { ConnectionTableAddPending(&table_, &key, Generation(key), 0); }

    // Fills a table up to three quarters with connections that are evicted last: of many owners, with many packets.
    // `of` makes the keys. The next connection makes room.
    void Fill(uint32_t count, const std::function<CONNECTION_KEY(uint32_t)> &of, UINT8 direction = DirectionOutbound)
    {
        for (uint32_t i = 0; i < count; i++)
        {
            InsertGrown(of(i), {100 + i, direction});
        }
    }

    static CONNECTION_KEY Udp(uint32_t n) { return KeyV4(n, 0, PROTOCOL_UDP); }
    static CONNECTION_KEY Tcp(uint32_t n) { return KeyV4(n, 0, PROTOCOL_TCP); }

    // Counts the connections of these that are in the table.
    unsigned CountOf(const std::vector<CONNECTION_KEY> &keys)
    {
        return static_cast<unsigned>(
            std::count_if(keys.begin(), keys.end(), [this](const CONNECTION_KEY &key) { return Has(key); }));
    }

    // Sends a few connections of other owners through the table, which end at once.
    void Press(uint32_t count = 40)
    {
        for (uint32_t i = 0; i < count; i++)
        {
            const CONNECTION_KEY key = KeyV4(0x800000 + pressed_++, 0, PROTOCOL_UDP);

            ASSERT_EQ(Insert(key, {90000 + pressed_}), STATUS_SUCCESS);
        }
    }

    CONNECTION_TABLE table_;
    uint32_t pressed_ = 0;
};

TEST_F(EvictionTest, BelowThreeQuartersNothingIsEvicted)
{
    for (uint32_t i = 0; i < kSmallFill; i++)
    {
        ASSERT_EQ(Insert(Udp(i)), STATUS_SUCCESS);
        if (i % 2 == 0)
        {
            End(Udp(i));
        }
    }
    Advance(50s);
    for (uint32_t i = 0; i < kSmallFill; i++)
    {
        EXPECT_TRUE(Has(Udp(i))) << i;
    }
}

TEST_F(EvictionTest, AnEndedConnectionGoesFirst)
{
    Fill(kSmallFill - 3, Tcp);
    ASSERT_EQ(Insert(Udp(1)), STATUS_SUCCESS);
    ASSERT_EQ(Insert(Tcp(1000)), STATUS_SUCCESS);
    Refuse(Tcp(1000));
    InsertGrown(Tcp(1001));
    Advance(10s);
    End(Tcp(1001));

    ASSERT_EQ(Insert(Udp(2)), STATUS_SUCCESS);
    EXPECT_FALSE(Has(Tcp(1001)));
    EXPECT_TRUE(Has(Tcp(1000)));
    EXPECT_TRUE(Has(Udp(1)));
}

TEST_F(EvictionTest, AConnectThatWasRefusedForGoodGoesNextAfterFiveSeconds)
{
    Fill(kSmallFill - 2, Tcp);
    ASSERT_EQ(Insert(Tcp(1000)), STATUS_SUCCESS);
    Refuse(Tcp(1000));
    ASSERT_EQ(Insert(Udp(1)), STATUS_SUCCESS);
    Advance(6s);

    ASSERT_EQ(Insert(Udp(2)), STATUS_SUCCESS);
    EXPECT_FALSE(Has(Tcp(1000)));
    EXPECT_TRUE(Has(Udp(1)));
}

TEST_F(EvictionTest, AConnectThatWasRefusedForGoodIsNotOldBeforeFiveSeconds)
{
    Fill(kSmallFill - 2, Tcp);
    ASSERT_EQ(Insert(Udp(1)), STATUS_SUCCESS);
    Advance(5s);
    InsertGrown(Tcp(1000));
    Refuse(Tcp(1000));
    Advance(5s);

    ASSERT_EQ(Insert(Udp(2)), STATUS_SUCCESS);
    ASSERT_EQ(Insert(Udp(3)), STATUS_SUCCESS);
    EXPECT_TRUE(Has(Tcp(1000)));
    EXPECT_FALSE(Has(Udp(1))) << "an embryonic one goes";
}

TEST_F(EvictionTest, AnEmbryonicConnectionGoesBeforeOneWithASecondPacketEitherWay)
{
    Restart(kShared);
    Fill(kSharedFill - 4, Tcp);
    ASSERT_EQ(Insert(Udp(1), {2}), STATUS_SUCCESS);
    Packet(Udp(1));
    Packet(Udp(1), true);
    ASSERT_EQ(Insert(Udp(2), {3}), STATUS_SUCCESS);
    Packet(Udp(2), true);
    Packet(Udp(2), true);
    ASSERT_EQ(Insert(Udp(3), {4}), STATUS_SUCCESS);
    Packet(Udp(3));
    Packet(Udp(3));
    Press();
    EXPECT_FALSE(Has(Udp(1)));
    EXPECT_TRUE(Has(Udp(2)));
    EXPECT_TRUE(Has(Udp(3)));
    for (uint32_t i = 0; i < kSharedFill - 4; i++)
    {
        EXPECT_TRUE(Has(Tcp(i))) << i;
    }
}

TEST_F(EvictionTest, AHeldPacketCountsOnceItIsLetGo)
{
    Restart(kShared);
    Fill(kSharedFill - 2, Tcp);
    ASSERT_EQ(Insert(Udp(1), {2}), STATUS_SUCCESS);
    Wait(Udp(1));
    EXPECT_TRUE(ConnectionTableResolvePending(&table_, &(const CONNECTION_KEY &)Udp(1), Generation(Udp(1)),
                                              VerdictPermanentAccept));
    Packet(Udp(1));
    Press();
    EXPECT_TRUE(Has(Udp(1)));
}

TEST_F(EvictionTest, AConnectionThatCameUpOrIsOlderThanTheDriverIsNotEmbryonic)
{
    const CONNECTION_ORIGIN older = {3, nullptr, 0, TRUE};

    Restart(kShared);
    Fill(kSharedFill - 4, Udp);
    ASSERT_EQ(Insert(Tcp(1), {2}), STATUS_SUCCESS);
    const CONNECTION_KEY first = Tcp(1);
    ConnectionTableSetEstablished(&table_, &first, 7);
    ASSERT_EQ(Insert(Tcp(2), {3}), STATUS_SUCCESS);
    const CONNECTION_KEY second = Tcp(2);
    ConnectionTableSetOrigin(&table_, &second, Generation(second), &older);
    Press();
    EXPECT_TRUE(Has(first));
    EXPECT_TRUE(Has(second));
}

TEST_F(EvictionTest, AConnectionWithAQuestionThatWaitsStays)
{
    Fill(kSmallFill - 1, Tcp);
    ASSERT_EQ(Insert(Udp(1)), STATUS_SUCCESS);
    Wait(Udp(1));
    Press(100);
    EXPECT_TRUE(Has(Udp(1)));
}

TEST_F(EvictionTest, AnOwnerOverItsShareLosesWhatIsOverIt)
{
    Restart(kShared);
    Fill(kSharedFill - 5, Tcp);
    for (uint32_t i = 0; i < 5; i++)
    {
        InsertGrown(Udp(1000 + i), {7});
    }
    Press();
    EXPECT_EQ(CountOf({Udp(1000), Udp(1001), Udp(1002), Udp(1003), Udp(1004)}), 2u);
    for (uint32_t i = 0; i < kSharedFill - 5; i++)
    {
        EXPECT_TRUE(Has(Tcp(i))) << i << ": its owner is not over its share";
    }
}

// A table that is this small has no room for any share, so all owners are over theirs.
TEST_F(EvictionTest, OfOwnersOverTheirSharesTheLeastRecentlyUsedConnectionGoes)
{
    for (uint32_t i = 0; i < kSmallFill; i++)
    {
        InsertGrown(Udp(i), {i});
        Advance(1s);
    }
    Packet(Udp(0));
    Advance(1s);
    InsertGrown(Udp(100), {100});
    InsertGrown(Udp(101), {101});
    EXPECT_TRUE(Has(Udp(0)));
    EXPECT_FALSE(Has(Udp(1)));
    EXPECT_TRUE(Has(Udp(3)));
}

TEST_F(EvictionTest, RedirectedAndAuthorizedTcpConnectionsOfOwnersOverTheirSharesGoLast)
{
    for (uint32_t i = 0; i < kSmallFill - 2; i++)
    {
        const CONNECTION_KEY key = i % 2 ? Udp(i) : Tcp(i);

        InsertGrown(key, {i});
        if (i % 2)
        {
            SetVerdict(key, VerdictRedirectTunnel);
        }
        else
        {
            ConnectionTableSetAuthorized(&table_, &key, Generation(key));
        }
    }
    Advance(1s);
    InsertGrown(Udp(1000), {1000});
    InsertGrown(Tcp(1001), {1001});
    InsertGrown(Udp(1002), {1002});
    InsertGrown(Udp(1003), {1003});
    for (uint32_t i = 0; i < kSmallFill - 2; i++)
    {
        EXPECT_TRUE(Has(i % 2 ? Udp(i) : Tcp(i))) << i;
    }
    EXPECT_FALSE(Has(Udp(1000)) && Has(Tcp(1001)));
}

TEST_F(EvictionTest, AnOutboundConnectionIsOwnedByItsImageWhateverTheProcess)
{
    static const WCHAR kPath[] = {'\\', 'a'};

    Restart(kShared);
    Fill(kSharedFill - 3, Tcp);
    for (uint32_t i = 0; i < 3; i++)
    {
        const CONNECTION_KEY key = Udp(1000 + i);
        const CONNECTION_ORIGIN origin = {70 + i, kPath, sizeof(kPath), FALSE};

        InsertGrown(key, {70 + i});
        ConnectionTableSetOrigin(&table_, &key, Generation(key), &origin);
    }
    Press();
    EXPECT_EQ(CountOf({Udp(1000), Udp(1001), Udp(1002)}), 2u);
}

TEST_F(EvictionTest, AnInboundConnectionIsOwnedByTheRemoteNetworkAndNotByTheProgramThatListens)
{
    for (bool v6 : {false, true})
    {
        const auto key = [v6](uint32_t network, uint32_t host)
        {
            CONNECTION_KEY made = v6 ? KeyV6(host, 53, PROTOCOL_UDP) : KeyV4(host, 53, PROTOCOL_UDP);

            made.RemoteAddress[2] = static_cast<UINT8>(network);
            return made;
        };

        Restart(kShared);
        Fill(kSharedFill - 3, [&](uint32_t i) { return key(i + 1, 1); }, DirectionInbound);
        for (uint32_t i = 0; i < 3; i++)
        {
            InsertGrown(key(0, 10 + i), {100, DirectionInbound});
        }
        Press();
        EXPECT_EQ(CountOf({key(0, 10), key(0, 11), key(0, 12)}), 2u) << "all that a network may have";
        for (uint32_t i = 0; i < kSharedFill - 3; i++)
        {
            EXPECT_TRUE(Has(key(i + 1, 1))) << i << ": one program has them all, from other networks";
        }
    }
}

TEST_F(EvictionTest, AConnectionInUseGetsASecondChance)
{
    Restart(kShared);
    Fill(kSharedFill - 3, Tcp);
    for (uint32_t i = 0; i < 3; i++)
    {
        InsertGrown(Udp(1000 + i), {7});
    }
    for (uint32_t i = 0; i < 40; i++)
    {
        Press(1);
        Packet(Udp(1000));
        Packet(Udp(1002));
    }
    EXPECT_TRUE(Has(Udp(1000)));
    EXPECT_FALSE(Has(Udp(1001)));
    EXPECT_TRUE(Has(Udp(1002)));
}

struct Side
{
    const char *name;
    UINT8 larger;
};

class EvictionAtLimitTest : public EvictionTest, public testing::WithParamInterface<Side>
{
  protected:
    CONNECTION_KEY OfLargerSide(uint32_t n, UINT8 protocol) { return KeyV6(1000 + n, 0, protocol); }

    // Fills the table up to its limit: a quarter on one side, the rest on the other side.
    void FillSides(bool with_udp)
    {
        const UINT8 larger = GetParam().larger;
        const UINT8 smaller = larger == DirectionInbound ? DirectionOutbound : DirectionInbound;

        Restart(kShared);
        for (uint32_t i = 0; i < kShared; i++)
        {
            const bool is_larger = i % 4 != 0;
            CONNECTION_KEY key = is_larger ? OfLargerSide(i, with_udp && i % 2 ? PROTOCOL_UDP : PROTOCOL_TCP)
                                           : KeyV4(i << 8, 0, PROTOCOL_UDP);

            key.RemoteAddress[4] = static_cast<UINT8>(is_larger ? i : 0); // another network
            keys_.push_back(key);
            InsertGrown(key, {100 + i, is_larger ? larger : smaller});
            if (i % 8 == 7)
            {
                Advance(1s);
            }
        }
        EXPECT_EQ(ConnectionTableCount(&table_), kShared);
        // The hand has passed them all.
        Advance(1s);
    }

    std::vector<CONNECTION_KEY> Evicted()
    {
        std::vector<CONNECTION_KEY> evicted;

        for (const CONNECTION_KEY &key : keys_)
        {
            if (!Has(key))
            {
                evicted.push_back(key);
            }
        }
        return evicted;
    }

    void InsertOne() { InsertGrown(KeyV4(0x900000, 0, PROTOCOL_UDP), {99}); }

    std::vector<CONNECTION_KEY> keys_;
};

INSTANTIATE_TEST_SUITE_P(EachSide, EvictionAtLimitTest,
                         testing::Values(Side{"Outbound", DirectionOutbound}, Side{"Inbound", DirectionInbound}),
                         [](const testing::TestParamInfo<Side> &side) { return std::string(side.param.name); });

TEST_P(EvictionAtLimitTest, TheLeastRecentlyUsedUdpConnectionOfTheLargerSideGoes)
{
    FillSides(true);
    InsertOne();
    const std::vector<CONNECTION_KEY> evicted = Evicted();
    ASSERT_EQ(evicted.size(), 1u);
    EXPECT_TRUE(evicted[0] == keys_[1] || evicted[0] == keys_[3] || evicted[0] == keys_[5] || evicted[0] == keys_[7]);
    EXPECT_EQ(evicted[0].Protocol, PROTOCOL_UDP);
}

TEST_P(EvictionAtLimitTest, WithoutUdpTheLeastRecentlyUsedTcpConnectionOfTheLargerSideGoes)
{
    FillSides(false);
    InsertOne();
    const std::vector<CONNECTION_KEY> evicted = Evicted();
    ASSERT_EQ(evicted.size(), 1u);
    EXPECT_EQ(evicted[0].IpVersion, 6) << "the larger side";
    EXPECT_EQ(evicted[0].Protocol, PROTOCOL_TCP);
}

TEST_F(EvictionTest, AFullTableWhoseQuestionsAllWaitRefuses)
{
    for (uint32_t i = 0; i < kSmall; i++)
    {
        ASSERT_EQ(Insert(Udp(i)), STATUS_SUCCESS);
        Wait(Udp(i));
    }
    EXPECT_FALSE(NT_SUCCESS(Insert(Udp(100))));
    EXPECT_EQ(ConnectionTableCount(&table_), kSmall);

    const CONNECTION_KEY first = Udp(0);
    ConnectionTableReleasePending(&table_, &first, Generation(first));
    EXPECT_EQ(Insert(Udp(100)), STATUS_SUCCESS);
    EXPECT_FALSE(Has(first));
    EXPECT_EQ(ConnectionTableCount(&table_), kSmall);
}

struct Endings
{
    CONNECTION_TABLE *table;
    std::vector<CONNECTION> seen;
    bool end = true;
};

void EndRemoved(void *context, const CONNECTION *connection)
{
    auto *endings = static_cast<Endings *>(context);
    CONNECTION ended;

    endings->seen.push_back(*connection);
    if (endings->end)
    {
        EXPECT_TRUE(ConnectionTableEnd(endings->table, &connection->Key, connection->State.Generation, &ended));
    }
}

TEST_F(EvictionTest, AConnectionThatIsEvictedAliveIsEnded)
{
    Endings endings{&table_, {}};

    ConnectionTableEndRemoved(&table_, EndRemoved, &endings);
    Fill(kSmallFill - 1, Tcp);
    ASSERT_EQ(Insert(Udp(1)), STATUS_SUCCESS);
    Press(2);
    ASSERT_FALSE(endings.seen.empty());
    EXPECT_EQ(endings.seen[0].Life.EndReason, EndReasonEvicted);
    EXPECT_TRUE(endings.seen[0].Key == Udp(1));
    EXPECT_FALSE(Has(Udp(1)));
}

TEST_F(EvictionTest, AConnectionThatIsNotEndedStays)
{
    Endings endings{&table_, {}, false};

    ConnectionTableEndRemoved(&table_, EndRemoved, &endings);
    for (uint32_t i = 0; i < kSmall; i++)
    {
        ASSERT_EQ(Insert(Udp(i)), STATUS_SUCCESS);
    }
    EXPECT_FALSE(NT_SUCCESS(Insert(Udp(100)))) << "after a few tries";
    EXPECT_EQ(ConnectionTableCount(&table_), kSmall);
    endings.end = true;
    EXPECT_EQ(Insert(Udp(100)), STATUS_SUCCESS);
}

TEST_F(EvictionTest, AFailedInsertionGivesItsRoomBack)
{
    for (uint32_t i = 0; i < 4 * kSmall; i++)
    {
        ASSERT_EQ(Insert(KeyV4(i, 443), {i}), STATUS_SUCCESS);
    }
    const UINT64 count = ConnectionTableCount(&table_);
    machine_.faults().FailAll();
    for (uint32_t i = 0; i < 64; i++)
    {
        (void)Insert(KeyV4(1000 + i, 443), {i});
    }
    machine_.faults().Stop();
    EXPECT_LE(ConnectionTableCount(&table_), count + 8);
    ConnectionTableRemoveAll(&table_);
    EXPECT_EQ(ConnectionTableCount(&table_), 0u);
}

TEST_F(EvictionTest, ALowerLimitTakesForceAtOnceAndTheTableComesDownStepByStep)
{
    Restart(1024);
    for (uint32_t i = 0; i < 700; i++)
    {
        InsertGrown(Udp(i), {i});
    }
    EXPECT_TRUE(ConnectionTableSetLimit(&table_, 200));
    EXPECT_EQ(Insert(Udp(1000)), STATUS_SUCCESS) << "in the place of another one";
    EXPECT_LE(ConnectionTableCount(&table_), 700u);
    const UINT64 before = ConnectionTableCount(&table_);
    EXPECT_TRUE(ConnectionTableEvict(&table_, 10));
    EXPECT_EQ(ConnectionTableCount(&table_), before - 10);
    EXPECT_FALSE(ConnectionTableEvict(&table_, 10000));
    EXPECT_EQ(ConnectionTableCount(&table_), 200u);
    EXPECT_FALSE(ConnectionTableSetLimit(&table_, 1024));
}

TEST_F(EvictionTest, AHigherLimitMakesRoomAtOnce)
{
    for (uint32_t i = 0; i < 2 * kSmall; i++)
    {
        InsertGrown(Udp(i), {i});
    }
    EXPECT_EQ(ConnectionTableCount(&table_), kSmallFill);
    EXPECT_FALSE(ConnectionTableSetLimit(&table_, 1024));
    for (uint32_t i = 0; i < 700; i++)
    {
        InsertGrown(Tcp(i), {i});
    }
    EXPECT_EQ(ConnectionTableCount(&table_), kSmallFill + 700u);
}

TEST_F(EvictionTest, SharesCountWhatIsInTheTable)
{
    std::mt19937 random(20261130);

    Restart(256);
    for (uint32_t i = 0; i < 20000; i++)
    {
        const CONNECTION_KEY key = random() % 2 ? Udp(random() % 400) : KeyV6(random() % 400);
        const CONNECTION_ORIGIN origin = {random() % 5, nullptr, 0, FALSE};
        CONNECTION_STATE state;
        CONNECTION ended;

        switch (random() % 4)
        {
        case 0:
            (void)ConnectionTableEnd(&table_, &key, 0, &ended);
            break;
        case 1:
            ConnectionTableSetOrigin(&table_, &key, 0, &origin);
            break;
        default:
            (void)ConnectionTableFindOrInsert(&table_, &key, random() % 5, random() % 2, &state);
        }
    }
    CONNECTION_WALK walk = {};
    std::vector<CONNECTION> all(256);
    UINT64 inbound = 0;
    UINT64 counted = 0;
    all.resize(ConnectionTableWalk(&table_, &walk, all.data(), 256));
    for (const CONNECTION &each : all)
    {
        inbound += each.State.Direction == DirectionInbound ? 1 : 0;
    }
    for (UINT32 owner = 0; owner < OWNER_SHARES_COUNTERS; owner++)
    {
        counted += OwnerSharesCount(&table_.Shares, static_cast<UINT16>(owner));
    }
    EXPECT_EQ(counted, ConnectionTableCount(&table_));
    EXPECT_EQ(OwnerSharesInbound(&table_.Shares), inbound);
    ConnectionTableRemoveAll(&table_);
    EXPECT_EQ(OwnerSharesInbound(&table_.Shares), 0u);
}

} // namespace
