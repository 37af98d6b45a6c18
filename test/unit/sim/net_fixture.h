// A machine whose driver is the test. It watches every layer, records each indication, and decides as the test says.
#pragma once

#include <ntddk.h>

#include <ndis.h>

#include <fwpsk.h>

#include <fwpmk.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "byte_order.h"
#include "machine.h"
#include "net/core.h"
#include "net/ip_packet.h"
#include "net/stack.h"
#include "nt/clock.h"
#include "nt/irql.h"
#include "nt/scheduler.h"
#include "wfp/engine.h"

namespace sim::net
{

enum class LayerKind : uint8_t
{
    kAssign,
    kConnect,
    kAccept,
    kOutPacket,
    kInPacket,
    kStream,
    kDatagram,
    kEstablished,
    kClosure,
    kRelease
};

// What one callout saw.
struct Indication
{
    LayerKind layer = LayerKind::kAssign;
    uint8_t family = kIpv4;
    uint16_t layer_id = 0;
    uint32_t value_count = 0;
    std::vector<FWP_DATA_TYPE> types; // one for each value
    std::vector<uint8_t> bytes;       // the values of one byte, by their field; 0 for the others
    Endpoint local;
    Endpoint remote;
    bool has_remote = false;
    uint8_t protocol = 0;
    uint32_t flags = 0;
    uint32_t reason = 0;
    uint32_t interface_index = 0;
    uint32_t sub_interface_index = 0;
    FWPS_INCOMING_METADATA_VALUES0 metadata{};
    std::u16string process_path;
    bool has_data = false;
    std::vector<uint8_t> data;   // from the start of the layer's data
    std::vector<uint8_t> packet; // from the IP header; set at the IP packet layers and for inbound packets
    uint32_t mdls = 0;
    uintptr_t start = 0; // address of the data
    uint32_t lists = 0;  // net buffer lists in the chain
    uint32_t stream_flags = 0;
    size_t stream_length = 0;
    Direction direction = Direction::kOutbound; // at the layers that have one
    FWPS_PACKET_INJECTION_STATE injection = FWPS_PACKET_NOT_INJECTED;
    FWPS_PACKET_LIST_INBOUND_IPSEC_INFORMATION0 security{};
    KIRQL irql = PASSIVE_LEVEL;

    bool reauthorizes() const { return (flags & FWP_CONDITION_FLAG_IS_REAUTHORIZE) != 0; }
    bool Has(uint32_t field) const { return (metadata.currentMetadataValues & field) == field; }
    std::string Name() const;
};

enum class Decision : uint8_t
{
    kPermit,
    kBlock,
    kDrop, // block and absorb
    kHold, // copy and absorb
    kPend, // pend, and copy the packet if there is one
    kPendWithoutCopy
};

// An operation or a packet that the driver holds.
struct Held
{
    Indication seen;
    HANDLE operation = nullptr;      // pended, and not completed yet
    NET_BUFFER_LIST *copy = nullptr; // neither freed nor injected yet
    std::vector<uint8_t> control;
};

namespace fixture
{

inline constexpr ULONG kTag = 'tseT';

// The field indices of one kind of layer. kNone stands for a missing field.
inline constexpr uint32_t kNone = ~0u;

struct Fields
{
    uint32_t count;
    uint32_t local_address, local_port, remote_address, remote_port, protocol, flags, direction, interface_index,
        sub_interface_index, reason;
};

inline const Fields &FieldsOf(LayerKind layer)
{
    static const Fields assign = {18, 2, 4, kNone, kNone, 5, 8, kNone, kNone, kNone, kNone};
    static const Fields connect = {41, 2, 4, 6, 7, 5, 12, kNone, 15, 16, 28};
    static const Fields accept = {39, 2, 4, 6, 7, 5, 11, kNone, 16, 17, 29};
    static const Fields out_packet = {10, 0, kNone, 2, kNone, kNone, 6, kNone, 4, 5, kNone};
    static const Fields in_packet = {10, 0, kNone, 1, kNone, kNone, 6, kNone, 4, 5, kNone};
    static const Fields stream = {8, 0, 3, 2, 4, kNone, 6, 5, kNone, kNone, kNone};
    static const Fields datagram = {14, 1, 4, 2, 5, 0, 10, 9, 7, 8, kNone};
    static const Fields established = {24, 2, 4, 6, 7, 5, 15, 12, kNone, kNone, kNone};
    static const Fields closure = {13, 2, 4, 6, 7, 5, 9, kNone, kNone, kNone, kNone};
    static const Fields release = {11, 2, 4, kNone, kNone, 5, 7, kNone, kNone, kNone, kNone};

    switch (layer)
    {
    case LayerKind::kAssign:
        return assign;
    case LayerKind::kConnect:
        return connect;
    case LayerKind::kAccept:
        return accept;
    case LayerKind::kOutPacket:
        return out_packet;
    case LayerKind::kInPacket:
        return in_packet;
    case LayerKind::kStream:
        return stream;
    case LayerKind::kDatagram:
        return datagram;
    case LayerKind::kEstablished:
        return established;
    case LayerKind::kClosure:
        return closure;
    case LayerKind::kRelease:
        break;
    }
    return release;
}

inline bool ReadAddress(const FWP_VALUE0 &value, Address *address)
{
    if (value.type == FWP_UINT32)
    {
        StoreBig32(address->data(), value.uint32);
        return true;
    }
    if (value.type == FWP_BYTE_ARRAY16_TYPE)
    {
        std::copy_n(value.byteArray16->byteArray16, 16, address->begin());
        return true;
    }
    return false;
}

inline uint16_t Read16(const FWPS_INCOMING_VALUES0 &values, uint32_t field)
{
    return field == kNone || values.incomingValue[field].value.type != FWP_UINT16
               ? 0
               : values.incomingValue[field].value.uint16;
}

inline uint32_t Read32(const FWPS_INCOMING_VALUES0 &values, uint32_t field)
{
    return field == kNone || values.incomingValue[field].value.type != FWP_UINT32
               ? 0
               : values.incomingValue[field].value.uint32;
}

inline std::vector<uint8_t> ReadData(NET_BUFFER_LIST *list)
{
    std::vector<uint8_t> bytes;

    for (; list != nullptr; list = list->Next)
    {
        NET_BUFFER *net_buffer = list->FirstNetBuffer;
        std::vector<uint8_t> storage(NET_BUFFER_DATA_LENGTH(net_buffer));

        if (storage.empty())
        {
            continue;
        }

        const auto *data = static_cast<const uint8_t *>(
            NdisGetDataBuffer(net_buffer, static_cast<ULONG>(storage.size()), storage.data(), 1, 0));

        bytes.insert(bytes.end(), data, data + storage.size());
    }
    return bytes;
}

inline std::string TcpFlags(uint8_t flags)
{
    std::string text;

    text += (flags & kTcpSyn) != 0 ? "S" : "";
    text += (flags & kTcpFin) != 0 ? "F" : "";
    text += (flags & kTcpRst) != 0 ? "R" : "";
    text += (flags & kTcpAck) != 0 ? "A" : "";
    return text;
}

inline std::string PacketName(const std::vector<uint8_t> &packet, bool reassembled)
{
    IpPacketInfo info;

    if (!(reassembled ? ParseReassembled : ParseIpPacket)(packet.data(), packet.size(), &info))
    {
        return "?";
    }
    if (info.fragment)
    {
        return "fragment";
    }
    if (!info.has_transport())
    {
        return "protocol " + std::to_string(info.protocol);
    }
    switch (info.protocol)
    {
    case kProtocolTcp:
        return TcpFlags(info.tcp_flags) +
               (info.payload_length == 0 ? std::string() : " " + std::to_string(info.payload_length));
    case kProtocolUdp:
        return "udp " + std::to_string(info.payload_length);
    default:
        break;
    }
    if (info.is_echo())
    {
        return info.is_echo_request() ? "echo" : "echo reply";
    }
    return "icmp " + std::to_string(info.source_port) + "/" + std::to_string(info.destination_port);
}

} // namespace fixture

class NetTest : public ::testing::Test
{
  protected:
    explicit NetTest(const MachineOptions &options = {true, false, 2, true});
    ~NetTest() override;

    NetTest(const NetTest &) = delete;
    NetTest &operator=(const NetTest &) = delete;

    Stack &stack() { return machine.net(); }

    // The names of the indications since the last call.
    std::vector<std::string> Log();
    std::vector<Indication> Seen();
    Indication LastSeen(LayerKind layer);

    // From now on the callouts see ALE_FLOW_ESTABLISHED too.
    void WatchEstablished();

    // Makes `decision` at these layers, and permits at the others.
    void Decide(std::initializer_list<LayerKind> layers, Decision decision);

    // The entry that has been held longest.
    Held &FirstHeld();
    size_t held_count();
    void Complete(Held &held);
    void Inject(Held &held);
    void Discard(Held &held); // frees the copy
    void Forget();            // drops entries without operation and copy
    // Completes the pended operation and injects the copy, as a driver does.
    void Allow(Held &held);
    // Completes the pended operation and frees the copy.
    void Refuse(Held &held);
    void AllowAll();

    // Replaces the filters of the authorization layers, so that every flow is authorized again.
    void SwapFilters(std::initializer_list<LayerKind> layers = {LayerKind::kConnect, LayerKind::kAccept});

    void Run() { machine.Run(); }

    OutcomeCallback Into(std::vector<Outcome> *outcomes)
    {
        return [outcomes](const Outcome &outcome) { outcomes->push_back(outcome); };
    }

    static Endpoint At(std::initializer_list<uint8_t> address, uint16_t port);
    static FlowSpec Tcp(uint8_t family = kIpv4);
    static FlowSpec Udp(std::vector<uint8_t> payload, uint8_t family = kIpv4);

    Machine machine;
    Machine::Scope scope;
    std::function<Decision(const Indication &)> policy = [](const Indication &) { return Decision::kPermit; };
    // Changes the bytes of a copy before it is injected.
    std::function<void(std::vector<uint8_t> *)> rewrite;
    bool inject_at_once = false;              // inject a held packet inside its classify
    bool injection_fails = false;             // the engine fails injections, and the copy is freed
    std::vector<NTSTATUS> injection_statuses; // of completed injections, in their order
    NTSTATUS last_status() const { return injection_statuses.empty() ? STATUS_SUCCESS : injection_statuses.back(); }

  private:
    struct Watch;

    static void NTAPI Classify(const FWPS_INCOMING_VALUES0 *values, const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                               void *layer_data, const void *, const FWPS_FILTER2 *filter, UINT64,
                               FWPS_CLASSIFY_OUT0 *out);
    static NTSTATUS NTAPI Notify(FWPS_CALLOUT_NOTIFY_TYPE, const GUID *, FWPS_FILTER2 *) { return STATUS_SUCCESS; }
    static void NTAPI Injected(void *context, NET_BUFFER_LIST *list, BOOLEAN);

    void AddWatch(LayerKind layer, uint8_t family, const GUID &key);
    UINT64 AddFilter(const Watch &watch);
    Indication Read(const Watch &watch, const FWPS_INCOMING_VALUES0 &values,
                    const FWPS_INCOMING_METADATA_VALUES0 &metadata, void *layer_data);
    void Keep(const Indication &seen, const FWPS_INCOMING_METADATA_VALUES0 &metadata, Decision decision);
    NET_BUFFER_LIST *Copy(std::vector<uint8_t> bytes);
    void Free(NET_BUFFER_LIST *list);

    HANDLE session_ = nullptr;
    HANDLE injection_[2] = {}; // network, transport
    PNDIS_GENERIC_OBJECT ndis_object_ = nullptr;
    NDIS_HANDLE pool_ = nullptr;
    std::vector<std::unique_ptr<Watch>> watches_;
    std::mutex mutex_;
    std::vector<Indication> seen_; // mutex_ guards this member and the next
    std::list<Held> held_;
};

struct NetTest::Watch
{
    NetTest *test = nullptr;
    LayerKind layer = LayerKind::kAssign;
    uint8_t family = kIpv4;
    GUID key{};
    GUID callout{};
    UINT32 id = 0;
    UINT64 filter = 0;
};

inline std::string Indication::Name() const
{
    const std::string way = direction == Direction::kOutbound ? " send" : " receive";
    const std::string injected = injection == FWPS_PACKET_NOT_INJECTED ? "" : " injected";

    switch (layer)
    {
    case LayerKind::kAssign:
        return "assign";
    case LayerKind::kConnect:
        return (reauthorizes() ? "connect again" : "connect") + injected;
    case LayerKind::kAccept:
        return (reauthorizes() ? "accept again" : "accept") + injected;
    case LayerKind::kOutPacket:
        return "out " + fixture::PacketName(packet, false) + injected;
    case LayerKind::kInPacket:
        return "in " + fixture::PacketName(packet, (flags & FWP_CONDITION_FLAG_IS_REASSEMBLED) != 0) +
               ((flags & FWP_CONDITION_FLAG_IS_FRAGMENT) != 0 ? " again" : "") +
               ((flags & FWP_CONDITION_FLAG_IS_REASSEMBLED) != 0 ? " reassembled" : "") + injected;
    case LayerKind::kStream:
        if ((stream_flags & (FWPS_STREAM_FLAG_RECEIVE_DISCONNECT | FWPS_STREAM_FLAG_SEND_DISCONNECT)) != 0)
        {
            return "stream" + way + " end";
        }
        return "stream" + way + " " + std::to_string(stream_length);
    case LayerKind::kDatagram:
        return "datagram" + way + " " + std::to_string(data.size()) + injected;
    case LayerKind::kEstablished:
        return "established";
    case LayerKind::kClosure:
        return has_remote ? "closure" : "closure of socket";
    case LayerKind::kRelease:
        break;
    }
    return "release";
}

inline NetTest::NetTest(const MachineOptions &options) : machine(options), scope(machine)
{
    FWPM_SESSION0 session{};
    FWPM_SUBLAYER0 sub_layer{};
    NET_BUFFER_LIST_POOL_PARAMETERS parameters{};

    GTEST_FLAG_SET(death_test_style, "fast");
    session.flags = FWPM_SESSION_FLAG_DYNAMIC;
    EXPECT_EQ(FwpmEngineOpen0(nullptr, RPC_C_AUTHN_WINNT, nullptr, &session, &session_), STATUS_SUCCESS);
    sub_layer.subLayerKey.Data1 = fixture::kTag;
    sub_layer.displayData.name = const_cast<wchar_t *>(L"test");
    sub_layer.weight = 0x8000;
    EXPECT_EQ(FwpmSubLayerAdd0(session_, &sub_layer, nullptr), STATUS_SUCCESS);

    EXPECT_EQ(FwpsInjectionHandleCreate0(AF_UNSPEC, FWPS_INJECTION_TYPE_NETWORK, &injection_[0]), STATUS_SUCCESS);
    EXPECT_EQ(FwpsInjectionHandleCreate0(AF_UNSPEC, FWPS_INJECTION_TYPE_TRANSPORT, &injection_[1]), STATUS_SUCCESS);
    ndis_object_ = NdisAllocateGenericObject(nullptr, fixture::kTag, 0);
    parameters.Header.Type = NDIS_OBJECT_TYPE_DEFAULT;
    parameters.Header.Revision = NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1;
    parameters.Header.Size = NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1;
    parameters.fAllocateNetBuffer = TRUE;
    parameters.PoolTag = fixture::kTag;
    pool_ = NdisAllocateNetBufferListPool(ndis_object_, &parameters);

    AddWatch(LayerKind::kAssign, kIpv4, FWPM_LAYER_ALE_RESOURCE_ASSIGNMENT_V4);
    AddWatch(LayerKind::kAssign, kIpv6, FWPM_LAYER_ALE_RESOURCE_ASSIGNMENT_V6);
    AddWatch(LayerKind::kConnect, kIpv4, FWPM_LAYER_ALE_AUTH_CONNECT_V4);
    AddWatch(LayerKind::kConnect, kIpv6, FWPM_LAYER_ALE_AUTH_CONNECT_V6);
    AddWatch(LayerKind::kAccept, kIpv4, FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4);
    AddWatch(LayerKind::kAccept, kIpv6, FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6);
    AddWatch(LayerKind::kOutPacket, kIpv4, FWPM_LAYER_OUTBOUND_IPPACKET_V4);
    AddWatch(LayerKind::kOutPacket, kIpv6, FWPM_LAYER_OUTBOUND_IPPACKET_V6);
    AddWatch(LayerKind::kInPacket, kIpv4, FWPM_LAYER_INBOUND_IPPACKET_V4);
    AddWatch(LayerKind::kInPacket, kIpv6, FWPM_LAYER_INBOUND_IPPACKET_V6);
    AddWatch(LayerKind::kStream, kIpv4, FWPM_LAYER_STREAM_V4);
    AddWatch(LayerKind::kStream, kIpv6, FWPM_LAYER_STREAM_V6);
    AddWatch(LayerKind::kDatagram, kIpv4, FWPM_LAYER_DATAGRAM_DATA_V4);
    AddWatch(LayerKind::kDatagram, kIpv6, FWPM_LAYER_DATAGRAM_DATA_V6);
    AddWatch(LayerKind::kClosure, kIpv4, FWPM_LAYER_ALE_ENDPOINT_CLOSURE_V4);
    AddWatch(LayerKind::kClosure, kIpv6, FWPM_LAYER_ALE_ENDPOINT_CLOSURE_V6);
    AddWatch(LayerKind::kRelease, kIpv4, FWPM_LAYER_ALE_RESOURCE_RELEASE_V4);
    AddWatch(LayerKind::kRelease, kIpv6, FWPM_LAYER_ALE_RESOURCE_RELEASE_V6);
    Run();
}

inline NetTest::~NetTest()
{
    while (!held_.empty())
    {
        Refuse(held_.front());
    }
    Run();
    EXPECT_EQ(FwpmEngineClose0(session_), STATUS_SUCCESS);
    for (const auto &watch : watches_)
    {
        EXPECT_EQ(FwpsCalloutUnregisterById0(watch->id), STATUS_SUCCESS);
    }
    FwpsInjectionHandleDestroy0(injection_[0]);
    FwpsInjectionHandleDestroy0(injection_[1]);
    NdisFreeNetBufferListPool(pool_);
    NdisFreeGenericObject(ndis_object_);
    machine.wfp().CheckUnloaded();
}

inline void NetTest::WatchEstablished()
{
    AddWatch(LayerKind::kEstablished, kIpv4, FWPM_LAYER_ALE_FLOW_ESTABLISHED_V4);
    AddWatch(LayerKind::kEstablished, kIpv6, FWPM_LAYER_ALE_FLOW_ESTABLISHED_V6);
    Run();
}

inline void NetTest::AddWatch(LayerKind layer, uint8_t family, const GUID &key)
{
    auto watch = std::make_unique<Watch>();
    static DEVICE_OBJECT device{};
    FWPS_CALLOUT2 runtime{};
    FWPM_CALLOUT0 callout{};

    watch->test = this;
    watch->layer = layer;
    watch->family = family;
    watch->key = key;
    watch->callout.Data1 = fixture::kTag;
    watch->callout.Data2 = static_cast<USHORT>(1 + watches_.size());
    runtime.calloutKey = watch->callout;
    runtime.classifyFn = Classify;
    runtime.notifyFn = Notify;
    EXPECT_EQ(FwpsCalloutRegister2(&device, &runtime, &watch->id), STATUS_SUCCESS);
    callout.calloutKey = watch->callout;
    callout.displayData.name = const_cast<wchar_t *>(L"test");
    callout.applicableLayer = key;
    EXPECT_EQ(FwpmCalloutAdd0(session_, &callout, nullptr, nullptr), STATUS_SUCCESS);
    watch->filter = AddFilter(*watch);
    watches_.push_back(std::move(watch));
}

inline UINT64 NetTest::AddFilter(const Watch &watch)
{
    FWPM_FILTER0 filter{};
    UINT64 id = 0;

    filter.displayData.name = const_cast<wchar_t *>(L"test");
    filter.layerKey = watch.key;
    filter.subLayerKey.Data1 = fixture::kTag;
    filter.action.type = FWP_ACTION_CALLOUT_TERMINATING;
    filter.action.calloutKey = watch.callout;
    filter.rawContext = reinterpret_cast<UINT64>(&watch);
    EXPECT_EQ(FwpmFilterAdd0(session_, &filter, nullptr, &id), STATUS_SUCCESS);
    return id;
}

inline void NetTest::SwapFilters(std::initializer_list<LayerKind> layers)
{
    EXPECT_EQ(FwpmTransactionBegin0(session_, 0), STATUS_SUCCESS);
    for (const auto &watch : watches_)
    {
        if (std::find(layers.begin(), layers.end(), watch->layer) != layers.end())
        {
            EXPECT_EQ(FwpmFilterDeleteById0(session_, watch->filter), STATUS_SUCCESS);
            watch->filter = AddFilter(*watch);
        }
    }
    EXPECT_EQ(FwpmTransactionCommit0(session_), STATUS_SUCCESS);
    Run();
}

inline void NTAPI NetTest::Classify(const FWPS_INCOMING_VALUES0 *values, const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                                    void *layer_data, const void *, const FWPS_FILTER2 *filter, UINT64,
                                    FWPS_CLASSIFY_OUT0 *out)
{
    const auto &watch = *reinterpret_cast<const Watch *>(filter->context);
    NetTest &test = *watch.test;
    const Indication seen = test.Read(watch, *values, *metadata, layer_data);

    {
        const std::lock_guard<std::mutex> lock(test.mutex_);
        test.seen_.push_back(seen);
    }

    const Decision decision = seen.injection == FWPS_PACKET_NOT_INJECTED ? test.policy(seen) : Decision::kPermit;

    if (decision == Decision::kPermit)
    {
        // A hard block of another product stands. A callout without the right may only veto.
        if ((out->rights & FWPS_RIGHT_ACTION_WRITE) != 0)
        {
            out->actionType = FWP_ACTION_PERMIT;
        }
        return;
    }
    out->actionType = FWP_ACTION_BLOCK;
    if (decision != Decision::kBlock)
    {
        out->flags |= FWPS_CLASSIFY_OUT_FLAG_ABSORB;
    }
    if (decision == Decision::kHold || decision == Decision::kPend || decision == Decision::kPendWithoutCopy)
    {
        test.Keep(seen, *metadata, decision);
        if (test.inject_at_once)
        {
            test.Allow(test.FirstHeld());
        }
    }
}

inline Indication NetTest::Read(const Watch &watch, const FWPS_INCOMING_VALUES0 &values,
                                const FWPS_INCOMING_METADATA_VALUES0 &metadata, void *layer_data)
{
    const fixture::Fields &fields = fixture::FieldsOf(watch.layer);
    Indication seen;

    seen.layer = watch.layer;
    seen.family = watch.family;
    seen.layer_id = values.layerId;
    seen.value_count = values.valueCount;
    for (uint32_t i = 0; i < values.valueCount; ++i)
    {
        const FWP_VALUE0 &value = values.incomingValue[i].value;

        seen.types.push_back(value.type);
        seen.bytes.push_back(value.type == FWP_UINT8 ? value.uint8 : 0);
    }
    seen.local.family = watch.family;
    seen.remote.family = watch.family;
    fixture::ReadAddress(values.incomingValue[fields.local_address].value, &seen.local.address);
    seen.local.port = fixture::Read16(values, fields.local_port);
    if (fields.remote_address != fixture::kNone)
    {
        seen.has_remote = fixture::ReadAddress(values.incomingValue[fields.remote_address].value, &seen.remote.address);
        seen.remote.port = fixture::Read16(values, fields.remote_port);
    }
    if (fields.protocol != fixture::kNone)
    {
        seen.protocol = values.incomingValue[fields.protocol].value.uint8;
    }
    seen.flags = fixture::Read32(values, fields.flags);
    seen.reason = fixture::Read32(values, fields.reason);
    seen.interface_index = fixture::Read32(values, fields.interface_index);
    seen.sub_interface_index = fixture::Read32(values, fields.sub_interface_index);
    seen.metadata = metadata;
    if (seen.Has(FWPS_METADATA_FIELD_PROCESS_PATH))
    {
        seen.process_path.assign(reinterpret_cast<const char16_t *>(metadata.processPath->data),
                                 metadata.processPath->size / sizeof(char16_t));
    }
    seen.irql = nt::CurrentIrql();

    auto *list = static_cast<NET_BUFFER_LIST *>(layer_data);

    switch (watch.layer)
    {
    case LayerKind::kStream:
    {
        auto *packet = static_cast<FWPS_STREAM_CALLOUT_IO_PACKET0 *>(layer_data);
        const FWPS_STREAM_DATA0 &stream = *packet->streamData;

        list = stream.netBufferListChain;
        seen.stream_flags = stream.flags;
        seen.stream_length = stream.dataLength;
        packet->streamAction = FWPS_STREAM_ACTION_NONE;
        seen.direction = (stream.flags & FWPS_STREAM_FLAG_RECEIVE) != 0 ? Direction::kInbound : Direction::kOutbound;
        break;
    }
    case LayerKind::kDatagram:
        seen.direction = fixture::Read32(values, fields.direction) == FWP_DIRECTION_INBOUND ? Direction::kInbound
                                                                                            : Direction::kOutbound;
        break;
    case LayerKind::kInPacket:
        seen.direction = Direction::kInbound;
        break;
    case LayerKind::kConnect:
    case LayerKind::kAccept:
        seen.direction = metadata.packetDirection == FWP_DIRECTION_INBOUND ? Direction::kInbound : Direction::kOutbound;
        break;
    default:
        break;
    }
    seen.has_data = list != nullptr;
    if (list == nullptr)
    {
        return seen;
    }
    for (const NET_BUFFER_LIST *each = list; each != nullptr; each = each->Next)
    {
        ++seen.lists;
    }
    if (watch.layer != LayerKind::kStream)
    {
        seen.injection = FwpsQueryPacketInjectionState0(injection_[0], list, nullptr);
        if (seen.injection == FWPS_PACKET_NOT_INJECTED || seen.injection == FWPS_PACKET_INJECTED_BY_OTHER)
        {
            seen.injection = FwpsQueryPacketInjectionState0(injection_[1], list, nullptr);
        }
    }
    FWPS_PACKET_LIST_INFORMATION0 information{};

    EXPECT_EQ(
        FwpsGetPacketListSecurityInformation0(
            list, FWPS_PACKET_LIST_INFORMATION_QUERY_INBOUND | FWPS_PACKET_LIST_INFORMATION_QUERY_IPSEC, &information),
        STATUS_SUCCESS);
    seen.security = information.ipsecInformation.inbound;
    seen.data = fixture::ReadData(list);

    NET_BUFFER *net_buffer = list->FirstNetBuffer;

    for (const MDL *mdl = net_buffer->CurrentMdl; mdl != nullptr; mdl = mdl->Next)
    {
        ++seen.mdls;
    }
    seen.start = reinterpret_cast<uintptr_t>(MmGetSystemAddressForMdlSafe(net_buffer->CurrentMdl, NormalPagePriority)) +
                 net_buffer->CurrentMdlOffset;

    ULONG header = seen.Has(FWPS_METADATA_FIELD_IP_HEADER_SIZE) ? metadata.ipHeaderSize : 0;

    if (watch.layer == LayerKind::kOutPacket)
    {
        seen.packet = seen.data;
    }
    else if (watch.layer != LayerKind::kStream && seen.direction == Direction::kInbound)
    {
        const bool echo = seen.protocol == kProtocolIcmp || seen.protocol == kProtocolIcmpV6;

        if (watch.layer != LayerKind::kInPacket && !echo)
        {
            header += metadata.transportHeaderSize;
        }
        EXPECT_EQ(NdisRetreatNetBufferDataStart(net_buffer, header, 0, nullptr), NDIS_STATUS_SUCCESS);
        seen.packet = fixture::ReadData(list);
        NdisAdvanceNetBufferDataStart(net_buffer, header, FALSE, nullptr);
    }
    return seen;
}

inline void NetTest::Keep(const Indication &seen, const FWPS_INCOMING_METADATA_VALUES0 &metadata, Decision decision)
{
    Held held;

    held.seen = seen;
    if (decision != Decision::kHold)
    {
        EXPECT_EQ(FwpsPendOperation0(metadata.completionHandle, &held.operation), STATUS_SUCCESS);
    }
    if (decision != Decision::kPendWithoutCopy && seen.has_data)
    {
        held.copy = Copy(seen.packet.empty() ? seen.data : seen.packet);
    }
    if (seen.Has(FWPS_METADATA_FIELD_TRANSPORT_CONTROL_DATA))
    {
        const auto *control = reinterpret_cast<const uint8_t *>(metadata.controlData);
        held.control.assign(control, control + metadata.controlDataLength);
    }

    const std::lock_guard<std::mutex> lock(mutex_);
    held_.push_back(std::move(held));
}

inline NET_BUFFER_LIST *NetTest::Copy(std::vector<uint8_t> bytes)
{
    NET_BUFFER_LIST *list = nullptr;

    if (rewrite != nullptr)
    {
        rewrite(&bytes);
    }

    const size_t length = std::max<size_t>(bytes.size(), 1);
    auto *memory = static_cast<uint8_t *>(ExAllocatePoolWithTag(NonPagedPoolNx, length, fixture::kTag));

    std::copy(bytes.begin(), bytes.end(), memory);

    MDL *mdl = IoAllocateMdl(memory, static_cast<ULONG>(length), FALSE, FALSE, nullptr);

    MmBuildMdlForNonPagedPool(mdl);
    EXPECT_EQ(FwpsAllocateNetBufferAndNetBufferList0(pool_, 0, 0, mdl, 0, bytes.size(), &list), STATUS_SUCCESS);
    return list;
}

inline void NetTest::Free(NET_BUFFER_LIST *list)
{
    MDL *mdl = list->FirstNetBuffer->MdlChain;
    void *memory = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);

    FwpsFreeNetBufferList0(list);
    IoFreeMdl(mdl);
    ExFreePoolWithTag(memory, fixture::kTag);
}

inline void NTAPI NetTest::Injected(void *context, NET_BUFFER_LIST *list, BOOLEAN)
{
    static_cast<NetTest *>(context)->injection_statuses.push_back(list->Status);
    static_cast<NetTest *>(context)->Free(list);
}

inline std::vector<std::string> NetTest::Log()
{
    std::vector<std::string> names;

    for (const Indication &seen : Seen())
    {
        names.push_back(seen.Name());
    }
    return names;
}

inline std::vector<Indication> NetTest::Seen()
{
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<Indication> seen;

    seen.swap(seen_);
    return seen;
}

inline Indication NetTest::LastSeen(LayerKind layer)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found =
        std::find_if(seen_.rbegin(), seen_.rend(), [layer](const Indication &seen) { return seen.layer == layer; });

    EXPECT_NE(found, seen_.rend()) << "nothing was seen at the layer";
    return found == seen_.rend() ? Indication() : *found;
}

inline void NetTest::Decide(std::initializer_list<LayerKind> layers, Decision decision)
{
    policy = [asked = std::vector<LayerKind>(layers), decision](const Indication &seen)
    {
        const bool here = std::find(asked.begin(), asked.end(), seen.layer) != asked.end();
        return here && !seen.reauthorizes() ? decision : Decision::kPermit;
    };
}

inline Held &NetTest::FirstHeld()
{
    const std::lock_guard<std::mutex> lock(mutex_);

    EXPECT_FALSE(held_.empty()) << "nothing is held";
    if (held_.empty())
    {
        held_.emplace_back();
    }
    return held_.front();
}

inline size_t NetTest::held_count()
{
    const std::lock_guard<std::mutex> lock(mutex_);
    return held_.size();
}

inline void NetTest::Complete(Held &held)
{
    const HANDLE operation = std::exchange(held.operation, nullptr);

    if (operation != nullptr)
    {
        FwpsCompleteOperation0(operation, nullptr);
    }
}

inline void NetTest::Inject(Held &held)
{
    NET_BUFFER_LIST *copy = std::exchange(held.copy, nullptr);
    const Indication &seen = held.seen;
    const ADDRESS_FAMILY family = seen.family == kIpv6 ? AF_INET6 : AF_INET;
    NTSTATUS status = STATUS_SUCCESS;
    FWPS_TRANSPORT_SEND_PARAMS1 parameters{};
    Address remote = seen.remote.address;
    const bool loopback = (seen.flags & FWP_CONDITION_FLAG_IS_LOOPBACK) != 0;

    const COMPARTMENT_ID compartment = static_cast<COMPARTMENT_ID>(seen.metadata.compartmentId);

    if (copy == nullptr)
    {
        return;
    }
    if (seen.layer == LayerKind::kOutPacket || (seen.layer == LayerKind::kInPacket && loopback))
    {
        status = FwpsInjectNetworkSendAsync0(injection_[0], nullptr, 0, compartment, copy, Injected, this);
    }
    else if (seen.layer == LayerKind::kInPacket)
    {
        status = FwpsInjectNetworkReceiveAsync0(injection_[0], nullptr, 0, compartment, seen.interface_index,
                                                seen.sub_interface_index, copy, Injected, this);
    }
    else if (seen.direction == Direction::kInbound)
    {
        status = FwpsInjectTransportReceiveAsync0(injection_[1], nullptr, nullptr, 0, family, compartment,
                                                  seen.interface_index, seen.sub_interface_index, copy, Injected, this);
    }
    else
    {
        parameters.remoteAddress = remote.data();
        parameters.remoteScopeId = seen.metadata.remoteScopeId;
        parameters.controlData = reinterpret_cast<WSACMSGHDR *>(held.control.data());
        parameters.controlDataLength = static_cast<ULONG>(held.control.size());
        status = FwpsInjectTransportSendAsync1(injection_[1], nullptr, seen.metadata.transportEndpointHandle, 0,
                                               &parameters, family, compartment, copy, Injected, this);
    }
    EXPECT_EQ(NT_SUCCESS(status), !injection_fails);
    if (!NT_SUCCESS(status))
    {
        Free(copy);
    }
    if (!inject_at_once)
    {
        Run();
    }
}

inline void NetTest::Discard(Held &held)
{
    NET_BUFFER_LIST *copy = std::exchange(held.copy, nullptr);

    if (copy != nullptr)
    {
        Free(copy);
    }
}

inline void NetTest::Forget()
{
    const std::lock_guard<std::mutex> lock(mutex_);
    held_.remove_if([](const Held &held) { return held.operation == nullptr && held.copy == nullptr; });
}

inline void NetTest::Allow(Held &held)
{
    Complete(held);
    Inject(held);
    Forget();
}

inline void NetTest::Refuse(Held &held)
{
    Complete(held);
    Discard(held);
    Forget();
}

inline void NetTest::AllowAll()
{
    while (held_count() != 0)
    {
        Allow(FirstHeld());
    }
}

inline Endpoint NetTest::At(std::initializer_list<uint8_t> address, uint16_t port)
{
    Endpoint endpoint;

    endpoint.family = address.size() == 16 ? kIpv6 : kIpv4;
    std::copy(address.begin(), address.end(), endpoint.address.begin());
    endpoint.port = port;
    return endpoint;
}

inline FlowSpec NetTest::Tcp(uint8_t family)
{
    FlowSpec spec;

    spec.protocol = kProtocolTcp;
    spec.process_id = 4321;
    spec.process_path = u"\\device\\harddiskvolume1\\app.exe";
    spec.local =
        family == kIpv6 ? At({0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7}, 50001) : At({10, 0, 0, 7}, 50001);
    spec.remote =
        family == kIpv6 ? At({0x20, 1, 0xD, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}, 443) : At({203, 0, 113, 9}, 443);
    return spec;
}

inline FlowSpec NetTest::Udp(std::vector<uint8_t> payload, uint8_t family)
{
    FlowSpec spec = Tcp(family);

    spec.protocol = kProtocolUdp;
    spec.remote.port = 53;
    spec.payload = std::move(payload);
    return spec;
}

} // namespace sim::net
