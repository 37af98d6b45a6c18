// Links with the same addresses, and compartments.

#include "net_fixture.h"

namespace sim::net
{
namespace
{

using testing::ElementsAre;

constexpr uint32_t kInterfaceIndex[] = {12, 13, 14};
constexpr uint32_t kSubInterfaceIndex[] = {3, 4, 5};
constexpr uint32_t kCompartment[] = {1, 1, 2};

class NetLinks : public NetTest
{
  protected:
    // The same two link-local addresses on each link.
    static FlowSpec On(uint8_t link, uint8_t protocol = kProtocolUdp)
    {
        FlowSpec spec = Udp({1, 2, 3}, kIpv6);

        spec.protocol = protocol;
        spec.local = At({0xFE, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7}, 50001);
        spec.remote = At({0xFE, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 53);
        spec.local.link = link;
        return spec;
    }

    void Arrive(const FlowSpec &spec)
    {
        uint8_t packet[128];
        const size_t length = WriteUdpPacket(packet, spec.remote, spec.local, spec.payload.data(), 3);

        stack().Arrive(packet, length, nullptr, spec.local.link);
    }
};

TEST_F(NetLinks, EveryLayerNamesTheLinkAndItsCompartment)
{
    for (const uint8_t protocol : {kProtocolUdp, kProtocolTcp})
    {
        for (uint8_t link = 0; link < kLinks; ++link)
        {
            const FlowId flow = stack().Connect(On(link, protocol), nullptr);
            const uint8_t byte = 1;

            stack().Receive(flow, &byte, 1, nullptr);
            stack().Close(flow);
            for (const Indication &each : Seen())
            {
                const fixture::Fields &fields = fixture::FieldsOf(each.layer);

                if (fields.interface_index != fixture::kNone)
                {
                    EXPECT_EQ(each.interface_index, kInterfaceIndex[link]) << each.Name();
                    EXPECT_EQ(each.sub_interface_index, kSubInterfaceIndex[link]) << each.Name();
                }
                if (each.Has(FWPS_METADATA_FIELD_COMPARTMENT_ID))
                {
                    EXPECT_EQ(each.metadata.compartmentId, kCompartment[link]) << each.Name();
                }
                if (each.Has(FWPS_METADATA_FIELD_REMOTE_SCOPE_ID))
                {
                    EXPECT_EQ(each.metadata.remoteScopeId.Zone, kInterfaceIndex[link]) << each.Name();
                }
            }
        }
    }
}

TEST_F(NetLinks, TheSameAddressesAndPortsOnTwoLinksAreTwoFlows)
{
    for (uint8_t link = 0; link < kLinks; ++link)
    {
        stack().Connect(On(link), nullptr);
        EXPECT_THAT(Log(), ElementsAre("assign", "connect", "datagram send 11", "out udp 3"));
    }
    for (uint8_t link = 0; link < kLinks; ++link)
    {
        Arrive(On(link));
        EXPECT_EQ(LastSeen(LayerKind::kDatagram).interface_index, kInterfaceIndex[link]);
        EXPECT_THAT(Log(), ElementsAre("in udp 3", "datagram receive 3"));
    }
}

TEST_F(NetLinks, EachLinkAsksForItsOwnInboundFlow)
{
    FlowSpec any = Udp({}, kIpv6);

    any.local = At({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 50001);
    stack().Listen(any);
    Log();
    for (const uint8_t link : {kEthernetLink, kSecondLink})
    {
        Arrive(On(link));
        EXPECT_EQ(LastSeen(LayerKind::kAccept).interface_index, kInterfaceIndex[link]);
        EXPECT_THAT(Log(), ElementsAre("in udp 3", "accept", "datagram receive 3"));
    }
    Arrive(On(kForeignLink));
    EXPECT_THAT(Log(), ElementsAre("in udp 3"));
}

TEST_F(NetLinks, AnInjectedPacketGoesOnWhereTheDriverNamesItsLinkAndCompartment)
{
    for (uint8_t link = 0; link < kLinks; ++link)
    {
        for (const LayerKind layer : {LayerKind::kConnect, LayerKind::kAccept, LayerKind::kInPacket})
        {
            FlowSpec spec = On(link);

            spec.remote.port = static_cast<uint16_t>(1000 + static_cast<int>(layer));
            spec.local.port = static_cast<uint16_t>(2000 + static_cast<int>(layer));
            Decide({layer}, layer == LayerKind::kInPacket ? Decision::kHold : Decision::kPend);
            if (layer == LayerKind::kConnect)
            {
                stack().Connect(spec, nullptr);
            }
            else
            {
                stack().Accept(spec, nullptr);
            }

            Held &held = FirstHeld();
            const uint32_t compartment = std::exchange(held.seen.metadata.compartmentId, 3 - kCompartment[link]);

            Complete(held);
            Log();
            if (link == kSecondLink)
            {
                held.seen.metadata.compartmentId = compartment;
                Inject(held);
                EXPECT_EQ(last_status(), STATUS_SUCCESS);
                EXPECT_EQ(Seen().back().interface_index, kInterfaceIndex[link]);
            }
            else
            {
                Inject(held);
                EXPECT_EQ(last_status(), STATUS_INVALID_PARAMETER);
            }
            Forget();
        }
    }
}

TEST_F(NetLinks, ATransportSendToALinkLocalAddressNeedsItsScope)
{
    Decide({LayerKind::kConnect}, Decision::kPend);
    stack().Connect(On(kSecondLink), nullptr);
    FirstHeld().seen.metadata.remoteScopeId.Zone = kInterfaceIndex[kEthernetLink];
    Allow(FirstHeld());
    EXPECT_EQ(last_status(), STATUS_INVALID_PARAMETER);
}

} // namespace
} // namespace sim::net
