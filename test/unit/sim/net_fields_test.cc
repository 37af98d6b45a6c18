// Every layer's values and their types, its metadata, and the start of its data.

#include "net_fixture.h"

namespace sim::net
{
namespace
{

constexpr uint32_t kInterface = 12;
constexpr uint32_t kSubInterface = 3;

class NetFields : public NetTest
{
  protected:
    // The first indication at each layer, of a connection and a datagram in each direction.
    void SeeEverything(uint8_t family)
    {
        FlowSpec server = Tcp(family);
        FlowSpec receiver = Udp({1, 2, 3}, family);
        const uint8_t bytes[] = {1, 2, 3, 4};

        server.local.port = 8080;
        receiver.local.port = 5353;

        const FlowId flows[] = {stack().Connect(Tcp(family), nullptr), stack().Accept(server, nullptr),
                                stack().Connect(Udp({1, 2, 3, 4, 5}, family), nullptr),
                                stack().Accept(receiver, nullptr)};

        for (const FlowId flow : flows)
        {
            stack().Send(flow, bytes, sizeof(bytes), nullptr);
            stack().Receive(flow, bytes, sizeof(bytes), nullptr);
            stack().Close(flow);
        }
        seen = Seen();
    }

    const Indication &First(LayerKind layer, uint8_t protocol = 0, Direction direction = Direction::kOutbound) const
    {
        for (const Indication &each : seen)
        {
            const bool directed = layer == LayerKind::kStream || layer == LayerKind::kDatagram;

            if (each.layer == layer && (protocol == 0 || each.protocol == protocol) &&
                (!directed || each.direction == direction))
            {
                return each;
            }
        }
        ADD_FAILURE() << "nothing was seen at the layer";
        return seen.front();
    }

    std::vector<Indication> seen;
};

TEST_F(NetFields, LayersHaveTheirIdsAndValueCounts)
{
    struct Expected
    {
        LayerKind layer;
        uint16_t v4;
        uint16_t v6;
        uint32_t count;
    };

    const Expected expected[] = {
        {LayerKind::kInPacket, 0, 2, 10},   {LayerKind::kOutPacket, 4, 6, 10}, {LayerKind::kStream, 20, 22, 8},
        {LayerKind::kDatagram, 24, 26, 14}, {LayerKind::kAssign, 36, 38, 18},  {LayerKind::kAccept, 44, 46, 39},
        {LayerKind::kConnect, 48, 50, 41},  {LayerKind::kRelease, 62, 63, 11}, {LayerKind::kClosure, 64, 65, 13},
    };

    for (const uint8_t family : {kIpv4, kIpv6})
    {
        SeeEverything(family);
        for (const Expected &each : expected)
        {
            EXPECT_EQ(First(each.layer).layer_id, family == kIpv4 ? each.v4 : each.v6);
            EXPECT_EQ(First(each.layer).value_count, each.count);
        }
    }
}

TEST_F(NetFields, AddressesAreHostOrderNumbersOrByteArrays)
{
    SeeEverything(kIpv4);

    const Indication &connect = First(LayerKind::kConnect, kProtocolTcp);

    EXPECT_EQ(connect.types[2], FWP_UINT32);
    EXPECT_EQ(connect.types[4], FWP_UINT16);
    EXPECT_EQ(connect.types[5], FWP_UINT8);
    EXPECT_EQ(connect.types[12], FWP_UINT32);
    EXPECT_TRUE(SameEndpoint(connect.local, Tcp().local));
    EXPECT_TRUE(SameEndpoint(connect.remote, Tcp().remote));

    SeeEverything(kIpv6);

    const Indication &connect6 = First(LayerKind::kConnect, kProtocolTcp);

    EXPECT_EQ(connect6.types[2], FWP_BYTE_ARRAY16_TYPE);
    EXPECT_EQ(connect6.types[6], FWP_BYTE_ARRAY16_TYPE);
    EXPECT_TRUE(SameEndpoint(connect6.local, Tcp(kIpv6).local));
    EXPECT_TRUE(SameEndpoint(connect6.remote, Tcp(kIpv6).remote));
}

TEST_F(NetFields, EveryLayerNamesTheSameConversation)
{
    for (const uint8_t family : {kIpv4, kIpv6})
    {
        const FlowId flow = stack().Connect(Tcp(family), nullptr);
        const uint8_t byte = 1;

        stack().Send(flow, &byte, 1, nullptr);
        stack().Receive(flow, &byte, 1, nullptr);
        stack().Close(flow);
        for (const Indication &each : Seen())
        {
            const bool packet = each.layer == LayerKind::kInPacket || each.layer == LayerKind::kOutPacket;

            EXPECT_EQ(each.local.address, Tcp(family).local.address) << each.Name();
            if (!packet)
            {
                EXPECT_EQ(each.local.port, Tcp(family).local.port) << each.Name();
            }
            if (each.has_remote)
            {
                EXPECT_EQ(each.remote.address, Tcp(family).remote.address) << each.Name();
            }
        }
    }
}

TEST_F(NetFields, LayersWithInterfaceFieldsNameTheInterface)
{
    SeeEverything(kIpv4);
    for (const LayerKind layer :
         {LayerKind::kConnect, LayerKind::kAccept, LayerKind::kOutPacket, LayerKind::kInPacket, LayerKind::kDatagram})
    {
        EXPECT_EQ(First(layer).interface_index, kInterface);
        EXPECT_EQ(First(layer).sub_interface_index, kSubInterface);
    }
}

TEST_F(NetFields, OutboundPacketsStartAtTheIpHeaderAligned)
{
    SeeEverything(kIpv4);
    for (const Indication &each : seen)
    {
        if (each.layer == LayerKind::kOutPacket)
        {
            EXPECT_EQ(each.data[0] >> 4, 4);
            EXPECT_EQ(each.start % sizeof(void *), 0u);
            EXPECT_EQ(each.mdls, 1u);
            EXPECT_EQ(each.metadata.ipHeaderSize, 20u);
            EXPECT_FALSE(each.Has(FWPS_METADATA_FIELD_PROCESS_ID));
        }
    }
}

TEST_F(NetFields, InboundPacketsStartAtTheTransportHeader)
{
    SeeEverything(kIpv6);

    const Indication &packet = First(LayerKind::kInPacket);
    IpPacketInfo info;

    ASSERT_TRUE(packet.Has(FWPS_METADATA_FIELD_IP_HEADER_SIZE));
    EXPECT_EQ(packet.metadata.ipHeaderSize, 40u);
    EXPECT_EQ(packet.data.size() + 40, packet.packet.size());
    ASSERT_TRUE(ParseIpPacket(packet.packet.data(), packet.packet.size(), &info));
    EXPECT_EQ(info.protocol, kProtocolTcp);
    EXPECT_EQ(info.source, Tcp(kIpv6).remote.address);
}

TEST_F(NetFields, OptionsOfAnInboundHeaderLieInTheRetreatSpace)
{
    std::vector<uint8_t> packet(40);
    IpPacketInfo info;

    // 4 bytes of options between the header and the datagram.
    WriteUdpPacket(packet.data(), At({198, 51, 100, 3}, 53), At({10, 0, 0, 7}, 50001), nullptr, 0);
    packet.resize(28);
    packet.insert(packet.begin() + 20, {1, 1, 1, 0});
    packet[0] = 0x46;
    packet[3] = static_cast<uint8_t>(packet.size());
    stack().Packet(Direction::kInbound, packet.data(), packet.size(), nullptr);

    const Indication seen_packet = LastSeen(LayerKind::kInPacket);

    EXPECT_EQ(seen_packet.metadata.ipHeaderSize, 24u);
    EXPECT_EQ(seen_packet.data.size(), 8u);
    EXPECT_EQ(seen_packet.packet, packet);
}

TEST_F(NetFields, ExtensionHeadersCountAsIpHeader)
{
    std::vector<uint8_t> packet(64);

    WriteUdpPacket(packet.data(), At({0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 53),
                   At({0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}, 50001), nullptr, 0);
    packet.resize(48);
    packet.insert(packet.begin() + 40, {kProtocolUdp, 0, 1, 4, 0, 0, 0, 0});
    packet[6] = 60; // destination options
    packet[5] = 16;
    stack().Packet(Direction::kInbound, packet.data(), packet.size(), nullptr);

    const Indication seen_packet = LastSeen(LayerKind::kInPacket);

    EXPECT_EQ(seen_packet.metadata.ipHeaderSize, 48u);
    EXPECT_EQ(seen_packet.data.size(), 8u);
    EXPECT_EQ(seen_packet.packet, packet);
}

TEST_F(NetFields, FragmentsAreMarked)
{
    std::vector<uint8_t> packet(28);

    WriteUdpPacket(packet.data(), At({198, 51, 100, 3}, 53), At({10, 0, 0, 7}, 50001), nullptr, 0);
    packet[4] = 0x12;
    packet[5] = 0x34;
    packet[6] = 0x20; // more fragments
    packet[7] = 2;    // 16 bytes
    stack().Packet(Direction::kInbound, packet.data(), packet.size(), nullptr);

    const std::vector<Indication> all = Seen();

    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].flags & FWP_CONDITION_FLAG_IS_FRAGMENT, 0u) << "it comes as a packet first";
    EXPECT_EQ(all[0].packet, packet);

    const Indication &seen_packet = all[1];

    EXPECT_EQ(seen_packet.packet, packet);
    EXPECT_NE(seen_packet.flags & FWP_CONDITION_FLAG_IS_FRAGMENT, 0u);
    ASSERT_TRUE(seen_packet.Has(FWPS_METADATA_FIELD_FRAGMENT_DATA));
    EXPECT_EQ(seen_packet.metadata.fragmentMetadata.fragmentIdentification, 0x1234u);
    EXPECT_EQ(seen_packet.metadata.fragmentMetadata.fragmentOffset, 16u);
    EXPECT_EQ(seen_packet.metadata.fragmentMetadata.fragmentLength, 8u);
}

TEST_F(NetFields, ConnectOfTcpHasNoPacketAndKnowsTheProcess)
{
    stack().Connect(Tcp(), nullptr);

    const Indication connect = LastSeen(LayerKind::kConnect);

    EXPECT_FALSE(connect.has_data);
    EXPECT_TRUE(connect.Has(FWPS_METADATA_FIELD_COMPLETION_HANDLE));
    ASSERT_TRUE(connect.Has(FWPS_METADATA_FIELD_PROCESS_ID | FWPS_METADATA_FIELD_PROCESS_PATH));
    EXPECT_EQ(connect.metadata.processId, 4321u);
    EXPECT_EQ(connect.process_path, Tcp().process_path + u'\0');
    EXPECT_TRUE(connect.Has(FWPS_METADATA_FIELD_TRANSPORT_ENDPOINT_HANDLE));
    EXPECT_NE(connect.metadata.transportEndpointHandle, 0u);
    EXPECT_FALSE(connect.Has(FWPS_METADATA_FIELD_IP_HEADER_SIZE));
    EXPECT_EQ(connect.flags, 0u);
}

TEST_F(NetFields, ConnectOfUdpHasTheDatagramAtItsTransportHeader)
{
    stack().Connect(Udp({1, 2, 3}), nullptr);

    const Indication connect = LastSeen(LayerKind::kConnect);

    ASSERT_TRUE(connect.has_data);
    EXPECT_EQ(connect.data.size(), 8u + 3u);
    EXPECT_EQ(connect.data[3], 53);
    ASSERT_TRUE(connect.Has(FWPS_METADATA_FIELD_TRANSPORT_CONTROL_DATA | FWPS_METADATA_FIELD_REMOTE_SCOPE_ID));
    EXPECT_GE(connect.metadata.controlDataLength, sizeof(WSACMSGHDR));
}

TEST_F(NetFields, AcceptHasThePacketAfterItsTransportHeader)
{
    FlowSpec spec = Udp({7, 8, 9});

    spec.local.port = 5353;
    stack().Accept(spec, nullptr);

    const Indication accept = LastSeen(LayerKind::kAccept);

    EXPECT_THAT(accept.data, testing::ElementsAre(7, 8, 9));
    ASSERT_TRUE(accept.Has(FWPS_METADATA_FIELD_IP_HEADER_SIZE | FWPS_METADATA_FIELD_TRANSPORT_HEADER_SIZE));
    EXPECT_EQ(accept.metadata.ipHeaderSize, 20u);
    EXPECT_EQ(accept.metadata.transportHeaderSize, 8u);
    EXPECT_EQ(accept.packet.size(), 31u);
    EXPECT_EQ(accept.metadata.packetDirection, FWP_DIRECTION_INBOUND);
}

TEST_F(NetFields, AcceptOfTcpHasTheSynAndTheListenersProcess)
{
    FlowSpec listener = Tcp();
    FlowSpec spec = Tcp();

    listener.local.port = 8080;
    listener.process_id = 99;
    spec.local.port = 8080;
    spec.process_id = 100;
    stack().Listen(listener);

    const uint64_t listening = LastSeen(LayerKind::kAssign).metadata.transportEndpointHandle;

    stack().Accept(spec, nullptr);

    const Indication accept = LastSeen(LayerKind::kAccept);

    EXPECT_TRUE(accept.has_data);
    EXPECT_TRUE(accept.data.empty());
    EXPECT_EQ(accept.packet.size(), 40u);
    EXPECT_EQ(accept.metadata.processId, 99u);
    EXPECT_EQ(accept.metadata.parentEndpointHandle, listening);
    EXPECT_NE(accept.metadata.transportEndpointHandle, listening);
}

TEST_F(NetFields, EchoHasTypeAndCodeInsteadOfPorts)
{
    FlowSpec spec = Udp({1, 2});

    spec.protocol = kProtocolIcmp;
    stack().Connect(spec, nullptr);

    const Indication connect = LastSeen(LayerKind::kConnect);

    EXPECT_EQ(connect.protocol, kProtocolIcmp);
    EXPECT_EQ(connect.local.port, 8u);
    EXPECT_EQ(connect.remote.port, 0u);
    EXPECT_EQ(connect.data.size(), 8u + 2u);
    EXPECT_EQ(connect.metadata.processId, spec.process_id);
    EXPECT_EQ(connect.metadata.transportHeaderSize, 8u);
    EXPECT_EQ(connect.flags, 0u);
}

TEST_F(NetFields, AuthorizationsHaveTheTypeOfTheAddress)
{
    constexpr uint32_t kDestinationType = 10; // of ALE_AUTH_CONNECT
    constexpr uint32_t kLocalType = 3;        // of ALE_AUTH_RECV_ACCEPT
    constexpr uint8_t kUnicast = 1;           // NL_ADDRESS_TYPE
    constexpr uint8_t kMulticast = 3;
    constexpr uint8_t kBroadcast = 4;
    const std::pair<Endpoint, uint8_t> types[] = {{At({203, 0, 113, 9}, 7), kUnicast},
                                                  {At({224, 0, 0, 251}, 7), kMulticast},
                                                  {At({255, 255, 255, 255}, 7), kBroadcast},
                                                  {At({10, 0, 0, 255}, 7), kBroadcast},
                                                  {At({10, 0, 1, 255}, 7), kUnicast}};

    for (const auto &[address, type] : types)
    {
        FlowSpec spec = Udp({1});

        spec.remote = address;
        stack().Connect(spec, nullptr);
        EXPECT_EQ(LastSeen(LayerKind::kConnect).bytes[kDestinationType], type);

        spec = Udp({1});
        spec.local = address;
        SwapFilters();
        stack().Accept(spec, nullptr);
        EXPECT_EQ(LastSeen(LayerKind::kAccept).bytes[kLocalType], type);
    }
}

TEST_F(NetFields, EchoHasItsIdentifierAndSequenceAsMetadata)
{
    FlowSpec spec = Udp({1, 2});

    spec.protocol = kProtocolIcmp;
    spec.local.port = 0x1234;
    spec.remote.port = 0x0102;

    const FlowId flow = stack().Connect(spec, nullptr);

    stack().Receive(flow, spec.payload.data(), 2, nullptr);
    for (const Indication &each : Seen())
    {
        const bool packet = each.layer == LayerKind::kOutPacket || each.layer == LayerKind::kInPacket;

        EXPECT_EQ(each.Has(FWPS_METADATA_FIELD_ICMP_ID_AND_SEQUENCE), !packet) << each.Name();
        if (!packet)
        {
            EXPECT_EQ(std::memcmp(&each.metadata.icmpIdAndSequence, "\x12\x34\x01\x02", 4), 0) << each.Name();
        }
    }
}

TEST_F(NetFields, AnInboundIcmpMessageBelongsToTheSystemProcess)
{
    uint8_t packet[64];
    const size_t length = WriteIcmpPacket(packet, Tcp().remote, Tcp().local, {13, 1}, 7, nullptr, 0);

    stack().Arrive(packet, length, nullptr);

    const Indication accept = LastSeen(LayerKind::kAccept);

    EXPECT_EQ(accept.protocol, kProtocolIcmp);
    EXPECT_EQ(accept.local.port, 13u);
    EXPECT_EQ(accept.remote.port, 1u);
    EXPECT_EQ(accept.metadata.processId, 4u);
    EXPECT_EQ(accept.data.size(), 8u);
    EXPECT_FALSE(accept.Has(FWPS_METADATA_FIELD_ICMP_ID_AND_SEQUENCE));
}

TEST_F(NetFields, OtherProtocolsComeFromARawEndpointAndHaveNoPorts)
{
    FlowSpec spec = Udp({1, 2, 3});

    spec.protocol = 47;
    stack().Connect(spec, nullptr);
    stack().Accept(spec, nullptr);
    for (const Indication &each : Seen())
    {
        if (each.layer != LayerKind::kConnect && each.layer != LayerKind::kAccept)
        {
            continue;
        }
        EXPECT_EQ(each.flags, FWP_CONDITION_FLAG_IS_RAW_ENDPOINT) << each.Name();
        EXPECT_EQ(each.protocol, 47u) << each.Name();
        EXPECT_EQ(each.local.port, 0u) << each.Name();
        EXPECT_EQ(each.remote.port, 0u) << each.Name();
        EXPECT_EQ(each.metadata.processId, spec.process_id) << each.Name();
        EXPECT_EQ(each.data, spec.payload) << each.Name();
    }
}

TEST_F(NetFields, OutboundDatagramsStartAtTheHeaderInboundOnesAtThePayload)
{
    const FlowId flow = stack().Connect(Udp({1, 2, 3}), nullptr);
    const uint8_t reply[] = {4, 5};

    EXPECT_EQ(LastSeen(LayerKind::kDatagram).data.size(), 11u);
    EXPECT_EQ(LastSeen(LayerKind::kDatagram).metadata.transportHeaderSize, 8u);
    stack().Receive(flow, reply, sizeof(reply), nullptr);
    EXPECT_THAT(LastSeen(LayerKind::kDatagram).data, testing::ElementsAre(4, 5));
    EXPECT_EQ(LastSeen(LayerKind::kDatagram).packet.size(), 30u);
}

TEST_F(NetFields, StreamHasOnlyPayloadAndNoProcess)
{
    const FlowId flow = stack().Connect(Tcp(), nullptr);
    const uint8_t bytes[] = {1, 2, 3};

    stack().Send(flow, bytes, sizeof(bytes), nullptr);

    Indication stream = LastSeen(LayerKind::kStream);

    EXPECT_THAT(stream.data, testing::ElementsAre(1, 2, 3));
    EXPECT_NE(stream.stream_flags & FWPS_STREAM_FLAG_SEND, 0u);
    EXPECT_FALSE(stream.Has(FWPS_METADATA_FIELD_PROCESS_ID));
    EXPECT_TRUE(stream.Has(FWPS_METADATA_FIELD_FLOW_HANDLE));
    stack().Receive(flow, bytes, 2, nullptr);
    stream = LastSeen(LayerKind::kStream);
    EXPECT_THAT(stream.data, testing::ElementsAre(1, 2));
    EXPECT_NE(stream.stream_flags & FWPS_STREAM_FLAG_RECEIVE, 0u);
}

TEST_F(NetFields, ClosureOfAConnectionNamesItsPeerAndClosureOfASocketDoesNot)
{
    stack().Close(stack().Connect(Tcp(), nullptr));
    EXPECT_TRUE(LastSeen(LayerKind::kClosure).has_remote);
    EXPECT_TRUE(SameEndpoint(LastSeen(LayerKind::kClosure).remote, Tcp().remote));
    EXPECT_EQ(LastSeen(LayerKind::kClosure).metadata.processId, 4321u);
    stack().Close(stack().Connect(Udp({1}), nullptr));
    EXPECT_FALSE(LastSeen(LayerKind::kClosure).has_remote);
    EXPECT_EQ(LastSeen(LayerKind::kClosure).types[6], FWP_EMPTY);
}

TEST_F(NetFields, AnEstablishedFlowHasItsHandleItsProcessAndItsDirection)
{
    WatchEstablished();
    for (const uint8_t family : {kIpv4, kIpv6})
    {
        SeeEverything(family);

        const Indication &established = First(LayerKind::kEstablished, kProtocolTcp);

        EXPECT_EQ(established.layer_id, family == kIpv4 ? 52 : 54);
        EXPECT_EQ(established.value_count, 24u);
        EXPECT_TRUE(SameEndpoint(established.local, Tcp(family).local));
        EXPECT_TRUE(SameEndpoint(established.remote, Tcp(family).remote));
        EXPECT_EQ(established.metadata.processId, 4321u);
        ASSERT_TRUE(established.Has(FWPS_METADATA_FIELD_FLOW_HANDLE));
        EXPECT_EQ(established.metadata.flowHandle, First(LayerKind::kConnect, kProtocolTcp).metadata.flowHandle);
        EXPECT_EQ(established.types[12], FWP_UINT32);
        EXPECT_FALSE(established.has_data);
    }
}

TEST_F(NetFields, LoopbackIsFlaggedEverywhere)
{
    FlowSpec server = Udp({});
    FlowSpec client = Udp({1, 2});

    server.local = At({127, 0, 0, 1}, 5353);
    client.local = At({127, 0, 0, 1}, 50001);
    client.remote = server.local;
    stack().Listen(server);
    Log();
    stack().Connect(client, nullptr);
    for (const Indication &each : Seen())
    {
        EXPECT_NE(each.flags & FWP_CONDITION_FLAG_IS_LOOPBACK, 0u) << each.Name();
        if (each.layer == LayerKind::kInPacket || each.layer == LayerKind::kOutPacket)
        {
            EXPECT_EQ(each.interface_index, 1u);
        }
    }
}

TEST_F(NetFields, ReceivesRunAtDispatchLevel)
{
    SeeEverything(kIpv4);
    EXPECT_EQ(First(LayerKind::kInPacket).irql, DISPATCH_LEVEL);
    EXPECT_EQ(First(LayerKind::kAccept).irql, DISPATCH_LEVEL);
    EXPECT_EQ(First(LayerKind::kStream, 0, Direction::kInbound).irql, DISPATCH_LEVEL);
    EXPECT_EQ(First(LayerKind::kConnect).irql, PASSIVE_LEVEL);
    EXPECT_EQ(First(LayerKind::kOutPacket).irql, PASSIVE_LEVEL);
}

TEST_F(NetFields, ChecksumsAreRight)
{
    for (const uint8_t family : {kIpv4, kIpv6})
    {
        SeeEverything(family);
        for (const Indication &each : seen)
        {
            if (each.layer != LayerKind::kInPacket && each.layer != LayerKind::kOutPacket)
            {
                continue;
            }

            IpPacketInfo info;

            ASSERT_TRUE(ParseIpPacket(each.packet.data(), each.packet.size(), &info));
            EXPECT_TRUE(ChecksumsAreRight(each.packet.data(), info)) << each.Name();
        }
    }
}

} // namespace
} // namespace sim::net
