// The broadcast addresses of this machine's subnets: read at the load, and after each change.
#include "support/driver_test.h"

#include "nt/fault_injection.h"
#include "net/unicast_addresses.h"

namespace kext_test
{
namespace
{

class SubnetsTest : public DriverTest
{
  protected:
    bool HasBroadcast(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
    {
        const uint8_t address[] = {a, b, c, d};

        machine_.Run();
        return SubnetsHaveBroadcast(&context()->Subnets, address) != FALSE;
    }

    static Flow To(const Endpoint &remote)
    {
        Flow flow = UdpV4();

        flow.remote = remote;
        return flow;
    }
};

TEST_F(SubnetsTest, TheBroadcastAddressOfEachSubnetIsKnown)
{
    machine_.addresses().Set({{{192, 0, 2, 10}, 24}, {{172, 16, 5, 1}, 12}, {{10, 0, 0, 1}, 30}});
    EXPECT_TRUE(HasBroadcast(192, 0, 2, 255));
    EXPECT_TRUE(HasBroadcast(172, 31, 255, 255));
    EXPECT_TRUE(HasBroadcast(10, 0, 0, 3));
    EXPECT_FALSE(HasBroadcast(192, 0, 2, 10));
    EXPECT_FALSE(HasBroadcast(172, 16, 5, 255));
}

TEST_F(SubnetsTest, ASubnetOfTwoAddressesHasNone)
{
    machine_.addresses().Set({{{10, 0, 0, 1}, 31}, {{10, 0, 0, 7}, 32}, {{0, 0, 0, 0}, 0}});
    EXPECT_FALSE(HasBroadcast(10, 0, 0, 1));
    EXPECT_FALSE(HasBroadcast(10, 0, 0, 7));
    EXPECT_FALSE(HasBroadcast(255, 255, 255, 255));
}

TEST_F(SubnetsTest, AChangeOfTheAddressesIsFollowed)
{
    EXPECT_FALSE(HasBroadcast(198, 18, 0, 255));
    machine_.addresses().Set({{{198, 18, 0, 1}, 24}});
    EXPECT_TRUE(HasBroadcast(198, 18, 0, 255));
    EXPECT_FALSE(HasBroadcast(192, 0, 2, 255));
}

TEST_F(SubnetsTest, AReadThatFailsLeavesWhatWasReadBefore)
{
    machine_.addresses().Set({{{198, 18, 0, 1}, 24}});
    machine_.Run();
    for (uint64_t n = 0; n < 2; n++)
    {
        machine_.faults().FailNth(n);
        machine_.addresses().Set({{{198, 18, 1, 1}, 24}});
        EXPECT_TRUE(HasBroadcast(198, 18, 0, 255)) << n;
        machine_.faults().Stop();
    }
}

TEST_F(SubnetsTest, TheNumberOfAddressesIsBounded)
{
    std::vector<sim::net::UnicastAddress> addresses;

    for (UINT32 i = 0; i <= SUBNETS_MAX; i++)
    {
        addresses.push_back({{10, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i), 1}, 24});
    }
    machine_.addresses().Set(addresses);
    EXPECT_TRUE(HasBroadcast(10, 0, 0, 255));
    EXPECT_FALSE(HasBroadcast(10, SUBNETS_MAX >> 8, 0, 255));
}

TEST_F(SubnetsTest, EachOfManyIsFoundInWhateverOrderTheSystemNamesThem)
{
    std::vector<sim::net::UnicastAddress> addresses;

    for (UINT32 i = 0; i < SUBNETS_MAX; i++)
    {
        const UINT32 mixed = i * 389 % SUBNETS_MAX; // each number once

        addresses.push_back({{10, static_cast<uint8_t>(mixed >> 8), static_cast<uint8_t>(mixed), 1}, 24});
    }
    addresses[7] = addresses[900]; // two addresses of one subnet
    machine_.addresses().Set(addresses);
    for (const sim::net::UnicastAddress &each : addresses)
    {
        EXPECT_TRUE(HasBroadcast(10, each.address[1], each.address[2], 255));
    }
    EXPECT_FALSE(HasBroadcast(9, 255, 255, 255));
    EXPECT_FALSE(HasBroadcast(10, 0, 0, 254));
    EXPECT_FALSE(HasBroadcast(10, SUBNETS_MAX >> 8, 0, 255));

    const SUBNETS &subnets = context()->Subnets;

    ASSERT_EQ(subnets.Count, SUBNETS_MAX);
    EXPECT_TRUE(std::is_sorted(subnets.Broadcasts, subnets.Broadcasts + subnets.Count))
        << "a packet does not look at each of them";
}

TEST_F(SubnetsTest, APacketToASubnetThatAleDidNotAuthorizeIsDecidedInPlace)
{
    const Flow flow = To(V4(192, 0, 2, 255, 137));

    machine_.Run();
    client_.SetOptions(Client::DefaultOptions());
    EXPECT_TRUE(network_.Outbound(MakePacket(flow)).permitted());
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentBlock);
    EXPECT_TRUE(network_.TakeInjected().empty());
    EXPECT_FALSE(network_.Outbound(MakePacket(flow)).permitted());
    EXPECT_EQ(client_.GetStatistics().DecidedInPlace, 1u);
    EXPECT_TRUE(client_.ReadQuestions().empty());
}

TEST_F(SubnetsTest, ItsConnectionKnowsThatAfterTheAddressHasGone)
{
    const Flow flow = To(V4(192, 0, 2, 255, 137));

    machine_.Run();
    client_.SetOptions(Client::DefaultOptions());
    EXPECT_TRUE(network_.Outbound(MakePacket(flow)).permitted());
    machine_.addresses().Set({});
    machine_.Run();
    EXPECT_TRUE(network_.Outbound(MakePacket(flow)).permitted());
    EXPECT_EQ(client_.ReadQuestions().size(), 1u);
    EXPECT_EQ(client_.GetStatistics().DecidedInPlace, 2u);
}

TEST_F(SubnetsTest, AnswersToItAreAskedAboutHere)
{
    const Flow flow = To(V4(192, 0, 2, 255, 137));
    const Flow answer{PROTOCOL_UDP, flow.local, V4(192, 0, 2, 77, 137)};

    machine_.Run();
    client_.SetOptions(Client::DefaultOptions());
    EXPECT_TRUE(network_.Inbound(MakePacket(answer, true)).permitted());
    network_.Outbound(MakePacket(flow));
    EXPECT_TRUE(network_.Inbound(MakePacket(answer, true)).absorbed());
}

} // namespace
} // namespace kext_test
