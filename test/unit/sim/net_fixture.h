// A machine whose driver is the test: it watches every layer, writes down what it sees, and decides as the test says.
#pragma once

#include <ntddk.h>

#include <ndis.h>

#include <fwpsk.h>

#include <fwpmk.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "machine.h"
#include "net/core.h"
#include "net/ip_packet.h"
#include "net/stack.h"
#include "nt/clock.h"
#include "nt/irql.h"
#include "nt/scheduler.h"
#include "wfp/engine.h"

namespace sim::net {

enum class LayerKind : uint8_t
{
    kAssign,
    kConnect,
    kAccept,
    kOutPacket,
    kInPacket,
    kStream,
    kDatagram,
    kClosure,
    kRelease
};

// What a callout was shown.
struct Indication
{
    LayerKind layer = LayerKind::kAssign;
    uint8_t family = kIpv4;
    uint16_t layer_id = 0;
    uint32_t value_count = 0;
    std::vector<FWP_DATA_TYPE> types; // of every value
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
    std::vector<uint8_t> data; // from where the data starts
    std::vector<uint8_t> packet; // from the IP header, at the IP packet layers and for inbound packets
    uint32_t mdls = 0;
    uintptr_t start = 0; // address of the data
    uint32_t lists = 0; // of a chain
    uint32_t stream_flags = 0;
    size_t stream_length = 0;
    Direction direction = Direction::kOutbound; // where the layer tells one
    FWPS_PACKET_INJECTION_STATE injection = FWPS_PACKET_NOT_INJECTED;
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
    kPend, // pend, with a copy of the packet where there is one
    kPendWithoutCopy
};

// An operation or a packet that the driver keeps.
struct Held
{
    Indication seen;
    HANDLE operation = nullptr; // pended, and not completed
    NET_BUFFER_LIST *copy = nullptr; // not freed and not injected
    std::vector<uint8_t> control;
};

class NetTest : public ::testing::Test
{
  protected:
    explicit NetTest(const MachineOptions &options = {true, false, 2, true});
    ~NetTest() override;

    NetTest(const NetTest &) = delete;
    NetTest &operator=(const NetTest &) = delete;

    Stack &stack() { return machine.net(); }

    // What was seen since the last call, one name an indication.
    std::vector<std::string> Log();
    std::vector<Indication> Seen();
    Indication LastSeen(LayerKind layer);

    // Decides as `decision` at these layers, and permits at the others.
    void Decide(std::initializer_list<LayerKind> layers, Decision decision);

    // The oldest that is held.
    Held &FirstHeld();
    size_t held_count();
    void Complete(Held &held);
    void Inject(Held &held);
    void Discard(Held &held); // frees the copy
    void Forget(); // what is neither pended nor has a copy any more
    // As a driver does: completes what is pended, and injects the copy.
    void Allow(Held &held);
    // Completes what is pended, and frees the copy.
    void Refuse(Held &held);
    void AllowAll();

    // As a driver that wants every flow to be authorized again.
    void SwapFilters();

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
    // What the driver does to the bytes of a copy before it injects it.
    std::function<void(std::vector<uint8_t> *)> rewrite;

  private:
    struct Watch;

    static void NTAPI Classify(const FWPS_INCOMING_VALUES0 *values, const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                               void *layer_data, const void *, const FWPS_FILTER1 *filter, UINT64,
                               FWPS_CLASSIFY_OUT0 *out);
    static NTSTATUS NTAPI Notify(FWPS_CALLOUT_NOTIFY_TYPE, const GUID *, FWPS_FILTER1 *) { return STATUS_SUCCESS; }
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
    std::vector<Indication> seen_; // under mutex_, as the next
    std::list<Held> held_;
};

} // namespace sim::net
