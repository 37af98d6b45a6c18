// What the driver's callout costs for an outbound packet of a known, accepted connection, the filter engine included.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>

#include "keys.h"
#include "machine_fixture.h"
#include "ordered_map_table.h"
#include "ndis/net_buffers.h"
#include "net/stack.h"
#include "nt/io_manager.h"
#include "wfp/engine.h"

extern "C"
{
#include "context.h"
#include "driver.h"
#include "ip_header.h"
#include "protocol.h"
}

namespace bench
{
namespace
{

constexpr uint16_t kOutboundIpPacketV4 = 4;
constexpr size_t kPacketLength = 40;

void Check(NTSTATUS status)
{
    if (!NT_SUCCESS(status))
    {
        std::abort();
    }
}

void StoreBigEndian16(uint8_t *bytes, uint16_t value)
{
    bytes[0] = static_cast<uint8_t>(value >> 8);
    bytes[1] = static_cast<uint8_t>(value);
}

// A TCP segment without payload, as its connection sends it.
class Packet
{
  public:
    explicit Packet(const CONNECTION_KEY &key) : key_(key)
    {
        bytes_[0] = 0x45;
        StoreBigEndian16(bytes_ + 2, kPacketLength);
        bytes_[8] = 64;
        bytes_[9] = key.Protocol;
        std::memcpy(bytes_ + 12, key.LocalAddress, 4);
        std::memcpy(bytes_ + 16, key.RemoteAddress, 4);
        StoreBigEndian16(bytes_ + 20, key.LocalPort);
        StoreBigEndian16(bytes_ + 22, key.RemotePort);
        bytes_[32] = 5 << 4;
        bytes_[33] = 0x10;
        mdl_ = IoAllocateMdl(bytes_, kPacketLength, FALSE, FALSE, nullptr);
        MmBuildMdlForNonPagedPool(mdl_);
        auto &buffers = Machine().net_buffers();
        list_ = buffers.Allocate(buffers.stack_pool(), 0, 0, mdl_, 0, kPacketLength);
    }

    ~Packet()
    {
        Machine().net_buffers().Free(list_);
        IoFreeMdl(mdl_);
    }

    Packet(const Packet &) = delete;
    Packet &operator=(const Packet &) = delete;

    const uint8_t *bytes() const { return bytes_; }

    // As the stack classifies it at OUTBOUND_IPPACKET.
    sim::wfp::ClassifyResult Classify()
    {
        FWPS_INCOMING_VALUE0 fields[10] = {};
        SetUint32(fields[0], key_.LocalAddress);
        SetUint32(fields[2], key_.RemoteAddress);
        fields[4].value.type = FWP_UINT32;
        fields[4].value.uint32 = 1;
        fields[5].value.type = FWP_UINT32;
        fields[6].value.type = FWP_UINT32;
        FWPS_INCOMING_VALUES0 values = {};
        values.layerId = kOutboundIpPacketV4;
        values.valueCount = 10;
        values.incomingValue = fields;
        FWPS_INCOMING_METADATA_VALUES0 metadata = {};
        metadata.currentMetadataValues = FWPS_METADATA_FIELD_IP_HEADER_SIZE;
        metadata.ipHeaderSize = 20;
        sim::wfp::ClassifyInput input;
        input.layer = kOutboundIpPacketV4;
        input.values = &values;
        input.metadata = &metadata;
        input.layer_data = list_;
        return Machine().wfp().Classify(input);
    }

  private:
    static void SetUint32(FWPS_INCOMING_VALUE0 &field, const uint8_t *address)
    {
        field.value.type = FWP_UINT32;
        field.value.uint32 =
            uint32_t{address[0]} << 24 | uint32_t{address[1]} << 16 | uint32_t{address[2]} << 8 | address[3];
    }

    CONNECTION_KEY key_;
    alignas(8) uint8_t bytes_[kPacketLength] = {};
    MDL *mdl_ = nullptr;
    NET_BUFFER_LIST *list_ = nullptr;
};

// The driver with one client, which has accepted the connections for good.
class NetverdictDriver
{
  public:
    explicit NetverdictDriver(const std::vector<CONNECTION_KEY> &keys)
    {
        sim::nt::IoManager &io = Machine().io();
        Check(io.LoadDriver(DriverEntry, u"NetVerdict", &driver_));
        Check(io.Open(u"\\\\.\\NetVerdict", &file_));
        uint64_t id = 0;
        for (const CONNECTION_KEY &key : keys)
        {
            Packet first(key);
            Machine().net().Packet(sim::net::Direction::kOutbound, first.bytes(), kPacketLength, {});
            uint8_t verdict[10] = {CommandVerdict};
            ++id;
            std::memcpy(verdict + 1, &id, sizeof id);
            verdict[9] = VerdictPermanentAccept;
            Check(io.WriteAndWait(file_, verdict, sizeof verdict).status);
        }
        Machine().Run();
    }

    ~NetverdictDriver()
    {
        Machine().io().Close(file_);
        Check(Machine().io().UnloadDriver(driver_));
    }

  private:
    PDRIVER_OBJECT driver_ = nullptr;
    sim::nt::File *file_ = nullptr;
};

// The usual design as a driver: one callout, which parses the packet and looks its connection up in the ordered map.
class OrderedMapDriver
{
  public:
    explicit OrderedMapDriver(const std::vector<CONNECTION_KEY> &keys)
    {
        for (const CONNECTION_KEY &key : keys)
        {
            connections_.Insert(key, VerdictPermanentAccept);
        }
        current_ = this;
        Check(Machine().io().LoadDriver(&Entry, u"OrderedMap", &driver_));
    }

    ~OrderedMapDriver() { Check(Machine().io().UnloadDriver(driver_)); }

  private:
    static NTSTATUS Entry(PDRIVER_OBJECT driver, PUNICODE_STRING)
    {
        driver->DriverUnload = &Unload;
        return current_->Register(driver);
    }

    static void Unload(PDRIVER_OBJECT)
    {
        OrderedMapDriver &self = *current_;
        FwpmEngineClose0(self.engine_);
        Check(FwpsCalloutUnregisterById0(self.callout_id_));
        IoDeleteDevice(self.device_);
    }

    NTSTATUS Register(PDRIVER_OBJECT driver)
    {
        static const GUID kCallout = {0x1f3a7c52, 0x8d1e, 0x4b63, {0x9a, 0x10, 0x5e, 0x44, 0x27, 0xc0, 0x3b, 0x71}};
        static const GUID kSubLayer = {0x1f3a7c53, 0x8d1e, 0x4b63, {0x9a, 0x10, 0x5e, 0x44, 0x27, 0xc0, 0x3b, 0x71}};
        Check(IoCreateDevice(driver, 0, nullptr, FILE_DEVICE_NETWORK, 0, FALSE, &device_));
        FWPS_CALLOUT2 callout = {};
        callout.calloutKey = kCallout;
        callout.classifyFn = &ClassifyCallout;
        callout.notifyFn = [](FWPS_CALLOUT_NOTIFY_TYPE, const GUID *, FWPS_FILTER2 *) -> NTSTATUS
        { return STATUS_SUCCESS; };
        Check(FwpsCalloutRegister2(device_, &callout, &callout_id_));
        FWPM_SESSION0 session = {};
        session.flags = FWPM_SESSION_FLAG_DYNAMIC;
        Check(FwpmEngineOpen0(nullptr, RPC_C_AUTHN_WINNT, nullptr, &session, &engine_));
        FWPM_CALLOUT0 registered = {};
        registered.calloutKey = kCallout;
        registered.displayData.name = const_cast<wchar_t *>(L"ordered map");
        registered.applicableLayer = FWPM_LAYER_OUTBOUND_IPPACKET_V4;
        Check(FwpmCalloutAdd0(engine_, &registered, nullptr, nullptr));
        FWPM_SUBLAYER0 sub_layer = {};
        sub_layer.subLayerKey = kSubLayer;
        sub_layer.displayData.name = const_cast<wchar_t *>(L"ordered map");
        sub_layer.weight = 0xFFFF;
        Check(FwpmSubLayerAdd0(engine_, &sub_layer, nullptr));
        FWPM_FILTER0 filter = {};
        filter.subLayerKey = kSubLayer;
        filter.displayData.name = const_cast<wchar_t *>(L"ordered map");
        filter.layerKey = FWPM_LAYER_OUTBOUND_IPPACKET_V4;
        filter.action.type = FWP_ACTION_CALLOUT_TERMINATING;
        filter.action.calloutKey = kCallout;
        filter.rawContext = reinterpret_cast<uintptr_t>(this);
        return FwpmFilterAdd0(engine_, &filter, nullptr, nullptr);
    }

    static void ClassifyCallout(const FWPS_INCOMING_VALUES0 *, const FWPS_INCOMING_METADATA_VALUES0 *, void *layer_data,
                                const void *, const FWPS_FILTER2 *filter, UINT64, FWPS_CLASSIFY_OUT0 *out)
    {
        auto &self = *reinterpret_cast<OrderedMapDriver *>(static_cast<uintptr_t>(filter->context));
        NET_BUFFER *buffer = NET_BUFFER_LIST_FIRST_NB(static_cast<NET_BUFFER_LIST *>(layer_data));
        const auto *header = static_cast<const uint8_t *>(NdisGetDataBuffer(buffer, 24, nullptr, 1, 0));
        CONNECTION_KEY key = {};
        std::memcpy(key.LocalAddress, header + 12, 4);
        std::memcpy(key.RemoteAddress, header + 16, 4);
        key.LocalPort = static_cast<uint16_t>(header[20] << 8 | header[21]);
        key.RemotePort = static_cast<uint16_t>(header[22] << 8 | header[23]);
        key.Protocol = header[9];
        key.IpVersion = 4;
        const bool found = self.connections_.Find(
            key, [out](uint8_t verdict)
            { out->actionType = verdict == VerdictPermanentAccept ? FWP_ACTION_PERMIT : FWP_ACTION_BLOCK; });
        if (!found)
        {
            out->actionType = FWP_ACTION_BLOCK;
        }
    }

    static OrderedMapDriver *current_; // between LoadDriver and Entry, which has no context

    OrderedMapTable<uint8_t> connections_;
    PDRIVER_OBJECT driver_ = nullptr;
    PDEVICE_OBJECT device_ = nullptr;
    HANDLE engine_ = nullptr;
    UINT32 callout_id_ = 0;
};

OrderedMapDriver *OrderedMapDriver::current_ = nullptr;

template <typename Driver> void ClassifyAccepted(benchmark::State &state)
{
    const std::vector<CONNECTION_KEY> keys = ShuffledKeys(static_cast<uint32_t>(state.range(0)), Ports::kSpread);
    auto driver = std::make_unique<Driver>(keys);
    std::vector<std::unique_ptr<Packet>> packets;
    for (const CONNECTION_KEY &key : keys)
    {
        packets.push_back(std::make_unique<Packet>(key));
    }
    size_t next = 0;
    for (auto _ : state)
    {
        if (packets[next]->Classify().action != sim::wfp::ClassifyResult::kPermit)
        {
            state.SkipWithError("a packet was not permitted");
            break;
        }
        next = next + 1 == packets.size() ? 0 : next + 1;
    }
}

BENCHMARK_TEMPLATE(ClassifyAccepted, NetverdictDriver)->Name("classify/netverdict")->Arg(1000);
BENCHMARK_TEMPLATE(ClassifyAccepted, OrderedMapDriver)->Name("classify/ordered-map")->Arg(1000);

} // namespace
} // namespace bench
