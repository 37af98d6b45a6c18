// The scopes of connections: found, added, and given up.
#include "connection_keys.h"
#include "kext_test.h"

#include "connection_ports.h"
#include "scope_table.h"

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;

constexpr uint64_t kMostConnections = 4096;
constexpr UINT32 kMostScopes = SCOPE_NONE - 1;

class ScopeTableTest : public KextTest
{
  protected:
    ScopeTableTest()
    {
        EXPECT_EQ(ConnectionTableInitialize(&connections_, &memory_, &clock_, kMostConnections), STATUS_SUCCESS);
        ScopeTableInitialize(&table_, &clock_, &connections_);
    }

    ~ScopeTableTest() override { ConnectionTableUninitialize(&connections_); }

    static SCOPE_PLACE Place(UINT32 interface_index, UINT32 compartment = DEFAULT_COMPARTMENT_ID, UINT64 luid = 0)
    {
        SCOPE_PLACE place;

        place.InterfaceIndex = interface_index;
        place.InterfaceLuid = luid;
        place.Compartment = static_cast<COMPARTMENT_ID>(compartment);
        return place;
    }

    UINT8 Find(UINT32 interface_index, UINT32 compartment = DEFAULT_COMPARTMENT_ID, UINT64 luid = 0)
    {
        const SCOPE_PLACE place = Place(interface_index, compartment, luid);

        return ScopeTableFind(&table_, &place);
    }

    // Adds a connection between two link-local addresses.
    CONNECTION_KEY Insert(UINT8 scope)
    {
        CONNECTION_KEY key = LinkLocal();
        CONNECTION_STATE state;

        key.Scope = scope;
        EXPECT_TRUE(NT_SUCCESS(ConnectionTableFindOrInsert(&connections_, &key, 7, DirectionOutbound, &state)));
        return key;
    }

    static CONNECTION_KEY LinkLocal()
    {
        CONNECTION_KEY key = KeyV4(1);

        memcpy(key.LocalAddress, "\xA9\xFE\x00\x01", 4);
        memcpy(key.RemoteAddress, "\xA9\xFE\x00\x02", 4);
        return key;
    }

    UINT8 Seek(const SCOPE_PLACE &place, UINT64 handle = 0)
    {
        const CONNECTION_KEY key = LinkLocal();

        return ScopeTableSeek(&table_, &key, &place, handle);
    }

    void Fill()
    {
        for (UINT32 link = 1; link <= kMostScopes; link++)
        {
            ASSERT_NE(Find(link), SCOPE_NONE);
        }
    }

    CONNECTION_TABLE connections_;
    SCOPE_TABLE table_;
};

TEST_F(ScopeTableTest, TheDefaultCompartmentWithoutALinkIsTheDefaultScope)
{
    EXPECT_EQ(Find(0), SCOPE_DEFAULT);
    EXPECT_EQ(Find(0, UNSPECIFIED_COMPARTMENT_ID), SCOPE_DEFAULT);
    EXPECT_EQ(ScopeTableLast(&table_), SCOPE_DEFAULT);
}

TEST_F(ScopeTableTest, EachLinkInEachCompartmentIsAScope)
{
    const UINT8 scopes[] = {Find(12), Find(13), Find(12, 2), Find(0, 2)};

    for (size_t i = 0; i < 4; i++)
    {
        EXPECT_NE(scopes[i], SCOPE_DEFAULT);
        for (size_t j = 0; j < i; j++)
        {
            EXPECT_NE(scopes[i], scopes[j]);
        }
    }
    EXPECT_EQ(Find(13), scopes[1]);
    EXPECT_EQ(Find(0, 2), scopes[3]);
    EXPECT_EQ(ScopeTableLast(&table_), 4);
}

TEST_F(ScopeTableTest, TheTargetOfARedirectionKeepsTheCompartment)
{
    EXPECT_EQ(ScopeTableWithoutLink(&table_, SCOPE_DEFAULT), SCOPE_DEFAULT);
    EXPECT_EQ(ScopeTableWithoutLink(&table_, Find(12)), SCOPE_DEFAULT);
    EXPECT_EQ(ScopeTableWithoutLink(&table_, Find(12, 2)), Find(0, 2));
    EXPECT_EQ(ScopeTableWithoutLink(&table_, SCOPE_NONE), SCOPE_NONE);
}

TEST_F(ScopeTableTest, AFullTableHasNoRoomForAScopeWhileAllAreInUse)
{
    Fill();
    EXPECT_EQ(Find(kMostScopes + 1), SCOPE_NONE);
    EXPECT_NE(Find(kMostScopes), SCOPE_NONE);
}

TEST_F(ScopeTableTest, AScopeThatNothingUsesGivesWay)
{
    Fill();
    Advance(std::chrono::seconds(SCOPE_KEPT_SECONDS) + 1s);

    const UINT8 kept = Find(2);
    const UINT8 added = Find(kMostScopes + 1);

    EXPECT_NE(added, SCOPE_NONE);
    EXPECT_NE(added, kept);
    EXPECT_EQ(Find(2), kept);
    EXPECT_EQ(Find(kMostScopes + 1), added);
}

TEST_F(ScopeTableTest, AScopeWithAConnectionDoesNotGiveWay)
{
    Fill();

    const UINT8 scopes[] = {Find(1), Find(2)};
    const CONNECTION_KEY first = Insert(scopes[0]);

    Advance(std::chrono::seconds(SCOPE_KEPT_SECONDS) + 1s);
    EXPECT_EQ(Find(kMostScopes + 1), scopes[1]);
    EXPECT_EQ(Find(1), scopes[0]);

    ConnectionTableRemoveAll(&connections_);
    Advance(std::chrono::seconds(SCOPE_KEPT_SECONDS) + 1s);
    EXPECT_EQ(Find(kMostScopes + 2), scopes[0]);

    CONNECTION_STATE state;

    EXPECT_FALSE(ConnectionTableLookup(&connections_, &first, &state));
}

TEST_F(ScopeTableTest, AConnectionThatIsReplacedCountsOnce)
{
    Fill();

    const UINT8 scope = Find(1);
    const CONNECTION_KEY key = Insert(scope);
    CONNECTION ended;

    ASSERT_TRUE(ConnectionTableEnd(&connections_, &key, 0, &ended));
    Insert(scope);
    EXPECT_TRUE(ConnectionTableHasScope(&connections_, scope));
    ConnectionTableRemoveAll(&connections_);
    EXPECT_FALSE(ConnectionTableHasScope(&connections_, scope));
}

TEST_F(ScopeTableTest, ThreadsThatMeetANewLinkAgreeOnItsScope)
{
    constexpr unsigned kThreads = 4;
    std::array<std::array<UINT8, 64>, kThreads> seen;

    RunThreads(kThreads,
               [&](unsigned thread)
               {
                   for (UINT32 link = 0; link < 64; link++)
                   {
                       seen[thread][link] = Find(link + 1);
                   }
               });
    for (const auto &scopes : seen)
    {
        EXPECT_EQ(scopes, seen[0]);
    }
    EXPECT_EQ(ScopeTableLast(&table_), 64);
}

// ---- Layers without an interface index

TEST_F(ScopeTableTest, TheOnlyConnectionIsFound)
{
    Find(12);

    const UINT8 scope = Find(13);

    EXPECT_EQ(Seek(Place(0)), SCOPE_NONE);
    Insert(scope);
    EXPECT_EQ(Seek(Place(0)), scope);
    EXPECT_EQ(Seek(Place(0, UNSPECIFIED_COMPARTMENT_ID)), scope);
    EXPECT_EQ(Seek(Place(0, 2)), SCOPE_NONE);
}

TEST_F(ScopeTableTest, AnEndedConnectionIsNotFound)
{
    const CONNECTION_KEY key = Insert(Find(13));
    CONNECTION ended;

    ASSERT_TRUE(ConnectionTableEnd(&connections_, &key, 0, &ended));
    EXPECT_EQ(Seek(Place(0)), SCOPE_NONE);
}

TEST_F(ScopeTableTest, OfTwoConnectionsTheOneOnThatInterfaceIsMeant)
{
    const UINT8 scopes[] = {Find(12, DEFAULT_COMPARTMENT_ID, 0x6000), Find(13, DEFAULT_COMPARTMENT_ID, 0x6001)};

    Insert(scopes[0]);
    Insert(scopes[1]);
    EXPECT_EQ(Seek(Place(0, DEFAULT_COMPARTMENT_ID, 0x6000)), scopes[0]);
    EXPECT_EQ(Seek(Place(0, DEFAULT_COMPARTMENT_ID, 0x6001)), scopes[1]);
}

TEST_F(ScopeTableTest, OfTwoConnectionsTheOneWithThatFlowIsMeant)
{
    const CONNECTION_KEY keys[] = {Insert(Find(12)), Insert(Find(13))};

    ConnectionTableSetEstablished(&connections_, &keys[0], 70);
    ConnectionTableSetEstablished(&connections_, &keys[1], 71);
    EXPECT_EQ(Seek(Place(0), 70), keys[0].Scope);
    EXPECT_EQ(Seek(Place(0), 71), keys[1].Scope);
}

TEST_F(ScopeTableTest, ThePortOfAnInterfaceSparesTheOtherInterfaces)
{
    const UINT8 scopes[] = {Find(12, DEFAULT_COMPARTMENT_ID, 0x6000), Find(13, DEFAULT_COMPARTMENT_ID, 0x6001),
                            Find(14, 2, 0x6002), Find(0, 2)};
    const SCOPE_PLACE place = Place(0, DEFAULT_COMPARTMENT_ID, 0x6001);
    UINT64 spared[4] = {};

    ScopeTableSpare(&table_, &place, TRUE, spared);
    EXPECT_EQ(spared[0], 1u << scopes[0] | 1u << scopes[2] | 1u << scopes[3]);
    spared[0] = 0;
    ScopeTableSpare(&table_, &place, FALSE, spared);
    EXPECT_EQ(spared[0], 1u << scopes[2] | 1u << scopes[3]);
}

TEST_F(ScopeTableTest, TheReleaseOfAPortLeavesSparedScopesAlone)
{
    const CONNECTION_KEY keys[] = {Insert(Find(12)), Insert(Find(0, 2))};
    CONNECTION_RELEASE release{};
    std::vector<CONNECTION> ended;

    release.Protocol = keys[0].Protocol;
    release.IpVersion = 4;
    release.LocalPort = keys[0].LocalPort;
    release.SparedScopes[0] = 1ULL << keys[1].Scope;
    for (const CONNECTION_KEY &key : keys)
    {
        CONNECTION_STATE state;

        ASSERT_TRUE(ConnectionTableLookup(&connections_, &key, &state));
        ConnectionTableSetConnecting(&connections_, &key, state.Generation, 0);
    }
    ConnectionPortsVisitPort(
        &connections_, &release, [](void *context, const CONNECTION *connection)
        { static_cast<std::vector<CONNECTION> *>(context)->push_back(*connection); }, &ended);
    ASSERT_EQ(ended.size(), 1u);
    EXPECT_EQ(ended[0].Key, keys[0]);
}

} // namespace
} // namespace kext_test
