// A machine on which the test is the driver: callouts are lambdas, and filters find them by their context.
#pragma once

#include <ntddk.h>

#include <ndis.h>

#include <fwpsk.h>

#include <fwpmk.h>

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "machine.h"
#include "ndis/net_buffers.h"
#include "nt/irql.h"
#include "nt/scheduler.h"
#include "wfp/engine.h"

namespace sim::wfp
{

struct ClassifyCall
{
    const FWPS_INCOMING_VALUES0 *values;
    const FWPS_INCOMING_METADATA_VALUES0 *metadata;
    void *layer_data;
    const FWPS_FILTER2 *filter;
    FWPS_CLASSIFY_OUT0 *out;

    void Permit() const { out->actionType = FWP_ACTION_PERMIT; }
    void Block() const { out->actionType = FWP_ACTION_BLOCK; }
    void Continue() const { out->actionType = FWP_ACTION_CONTINUE; }
    void Absorb() const
    {
        out->actionType = FWP_ACTION_BLOCK;
        out->flags |= FWPS_CLASSIFY_OUT_FLAG_ABSORB;
    }
    void ClearRight() const { out->rights &= ~static_cast<UINT32>(FWPS_RIGHT_ACTION_WRITE); }
};

// A filter's context points to this.
struct TestCallout
{
    std::function<void(const ClassifyCall &)> classify = [](const ClassifyCall &call) { call.Continue(); };
    std::function<NTSTATUS(FWPS_CALLOUT_NOTIFY_TYPE)> notify;
    std::vector<FWPS_CALLOUT_NOTIFY_TYPE> notifications;

    static void NTAPI ClassifyFunction(const FWPS_INCOMING_VALUES0 *values,
                                       const FWPS_INCOMING_METADATA_VALUES0 *metadata, void *layer_data, const void *,
                                       const FWPS_FILTER2 *filter, UINT64, FWPS_CLASSIFY_OUT0 *out)
    {
        reinterpret_cast<TestCallout *>(filter->context)->classify({values, metadata, layer_data, filter, out});
    }

    static NTSTATUS NTAPI NotifyFunction(FWPS_CALLOUT_NOTIFY_TYPE type, const GUID *, FWPS_FILTER2 *filter)
    {
        auto *callout = reinterpret_cast<TestCallout *>(filter->context);

        callout->notifications.push_back(type);
        return callout->notify ? callout->notify(type) : STATUS_SUCCESS;
    }
};

inline GUID Key(uint32_t number)
{
    GUID key{};

    key.Data1 = 0x74657374;
    key.Data4[7] = static_cast<UCHAR>(number);
    key.Data4[6] = static_cast<UCHAR>(number >> 8);
    return key;
}

class WfpTest : public ::testing::Test
{
  protected:
    static constexpr uint16_t kLayer = FWPS_LAYER_ALE_AUTH_CONNECT_V4;

    explicit WfpTest(const MachineOptions &options = {true, false, 2, true}) : machine(options), scope(machine)
    {
        GTEST_FLAG_SET(death_test_style, "fast");
        metadata.currentMetadataValues = FWPS_METADATA_FIELD_PROCESS_ID;
        metadata.processId = 1234;
    }

    Engine &engine() { return machine.wfp(); }

    static HANDLE Open(UINT32 flags = FWPM_SESSION_FLAG_DYNAMIC, UINT32 wait_milliseconds = 1)
    {
        FWPM_SESSION0 session{};
        HANDLE handle = nullptr;

        session.flags = flags;
        session.txnWaitTimeoutInMSec = wait_milliseconds;
        EXPECT_EQ(FwpmEngineOpen0(nullptr, RPC_C_AUTHN_WINNT, nullptr, &session, &handle), STATUS_SUCCESS);
        return handle;
    }

    static NTSTATUS AddSubLayer(HANDLE session, uint32_t key, UINT16 weight)
    {
        FWPM_SUBLAYER0 sub_layer{};

        sub_layer.subLayerKey = Key(key);
        sub_layer.displayData.name = const_cast<wchar_t *>(L"sublayer");
        sub_layer.weight = weight;
        return FwpmSubLayerAdd0(session, &sub_layer, nullptr);
    }

    static NTSTATUS AddCallout(HANDLE session, uint32_t key, const GUID &layer, UINT32 *id = nullptr)
    {
        FWPM_CALLOUT0 callout{};

        callout.calloutKey = Key(key);
        callout.displayData.name = const_cast<wchar_t *>(L"callout");
        callout.applicableLayer = layer;
        return FwpmCalloutAdd0(session, &callout, nullptr, id);
    }

    static FWPM_FILTER0 MakeFilter(const GUID &layer, uint32_t sub_layer, FWP_ACTION_TYPE action)
    {
        FWPM_FILTER0 filter{};

        filter.displayData.name = const_cast<wchar_t *>(L"filter");
        filter.layerKey = layer;
        filter.subLayerKey = Key(sub_layer);
        filter.action.type = action;
        return filter;
    }

    static NTSTATUS Register(uint32_t key, UINT32 *id, UINT32 flags = 0)
    {
        static DEVICE_OBJECT device{};
        FWPS_CALLOUT2 callout{};

        callout.calloutKey = Key(key);
        callout.flags = flags;
        callout.classifyFn = TestCallout::ClassifyFunction;
        callout.notifyFn = TestCallout::NotifyFunction;
        return FwpsCalloutRegister2(&device, &callout, id);
    }

    // A session with one sublayer, and one callout for each given layer, registered and added.
    struct Driver
    {
        HANDLE session = nullptr;
        std::vector<UINT32> callouts;
    };

    static constexpr uint32_t kSubLayer = 1;
    static constexpr uint32_t kFirstCallout = 100;

    static Driver StartDriver(const std::vector<const GUID *> &layers, UINT16 weight = 0x8000, UINT32 flags = 0)
    {
        Driver driver;

        driver.session = Open();
        EXPECT_EQ(AddSubLayer(driver.session, kSubLayer, weight), STATUS_SUCCESS);
        for (const GUID *layer : layers)
        {
            const uint32_t key = kFirstCallout + static_cast<uint32_t>(driver.callouts.size());
            UINT32 id = 0;

            EXPECT_EQ(Register(key, &id, flags), STATUS_SUCCESS);
            EXPECT_EQ(AddCallout(driver.session, key, *layer), STATUS_SUCCESS);
            driver.callouts.push_back(id);
        }
        return driver;
    }

    static UINT64 AddCalloutFilter(const Driver &driver, const GUID &layer, TestCallout &callout, uint32_t index = 0,
                                   FWP_ACTION_TYPE action = FWP_ACTION_CALLOUT_TERMINATING, UINT8 weight = 8,
                                   UINT32 flags = 0)
    {
        FWPM_FILTER0 filter = MakeFilter(layer, kSubLayer, action);
        UINT64 id = 0;

        filter.flags = flags;
        filter.weight.type = FWP_UINT8;
        filter.weight.uint8 = weight;
        filter.action.calloutKey = Key(kFirstCallout + index);
        filter.rawContext = reinterpret_cast<UINT64>(&callout);
        EXPECT_EQ(FwpmFilterAdd0(driver.session, &filter, nullptr, &id), STATUS_SUCCESS);
        return id;
    }

    void StopDriver(const Driver &driver)
    {
        EXPECT_EQ(FwpmEngineClose0(driver.session), STATUS_SUCCESS);
        for (const UINT32 id : driver.callouts)
        {
            EXPECT_EQ(FwpsCalloutUnregisterById0(id), STATUS_SUCCESS);
        }
        engine().CheckUnloaded();
    }

    ClassifyInput Input(uint16_t layer = kLayer)
    {
        ClassifyInput input;

        fields[5].value.type = FWP_UINT8; // the field IP_PROTOCOL at the ALE layers
        fields[5].value.uint8 = protocol;
        values.layerId = layer;
        values.valueCount = static_cast<UINT32>(fields.size());
        values.incomingValue = fields.data();
        input.layer = layer;
        input.values = &values;
        input.metadata = &metadata;
        return input;
    }

    ClassifyResult Classify(uint16_t layer = kLayer) { return engine().Classify(Input(layer)); }

    Machine machine;
    Machine::Scope scope;
    std::array<FWPS_INCOMING_VALUE0, FWPS_FIELD_ALE_AUTH_CONNECT_V4_MAX> fields{};
    FWPS_INCOMING_VALUES0 values{};
    FWPS_INCOMING_METADATA_VALUES0 metadata{};
    UINT8 protocol = IPPROTO_TCP;
};

// Bytes with an MDL that describes them, for net buffer lists.
class PacketBytes
{
  public:
    explicit PacketBytes(std::vector<uint8_t> content) : length_(content.size())
    {
        bytes_ = static_cast<uint8_t *>(ExAllocatePoolWithTag(NonPagedPoolNx, length_, 'tseT'));
        std::copy(content.begin(), content.end(), bytes_);
        mdl_ = IoAllocateMdl(bytes_, static_cast<ULONG>(length_), FALSE, FALSE, nullptr);
        MmBuildMdlForNonPagedPool(mdl_);
    }

    ~PacketBytes()
    {
        IoFreeMdl(mdl_);
        ExFreePoolWithTag(bytes_, 'tseT');
    }

    PacketBytes(const PacketBytes &) = delete;
    PacketBytes &operator=(const PacketBytes &) = delete;

    MDL *mdl() { return mdl_; }
    uint8_t *bytes() { return bytes_; }
    size_t length() const { return length_; }

  private:
    size_t length_;
    uint8_t *bytes_;
    MDL *mdl_;
};

} // namespace sim::wfp
