// The filter engine of a simulated computer: what the network stack calls (Classify), what a test adjusts, and the
// implementation behind the driver's Fwpm*/Fwps* calls.
//
// Concurrency: every public method may be called from any thread. Callouts, completions, reauthorization, deliveries
// and origin callbacks run with no engine lock held, so each of them may call the engine again. Classify takes no lock:
// it reads an immutable snapshot of its layer's filters, protected by reader counts (read_section.h).
#pragma once

#include <ntddk.h>

#include <ndis.h>

#include <fwpsk.h>

#include <fwpmk.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>

#include "packet_origin.h"

namespace sim
{
class Machine;
}

namespace sim::wfp
{

// Called once when the driver completes the operation that it pended: on any thread, at PASSIVE or DISPATCH level. It
// may run before Classify has returned to its caller, when another thread completes at once, but never inside the
// callout that pended. net_buffer_list is what the driver gave to FwpsCompleteOperation0, within that call; later,
// nullptr.
using OperationCompletion = std::function<void(NET_BUFFER_LIST *net_buffer_list)>;

struct ClassifyInput
{
    uint16_t layer = 0;
    FWPS_INCOMING_VALUES0 *values = nullptr;            // layerId and valueCount set
    FWPS_INCOMING_METADATA_VALUES0 *metadata = nullptr; // completionHandle is set by the engine at the ALE_AUTH layers
    void *layer_data = nullptr; // NET_BUFFER_LIST chain; at STREAM an FWPS_STREAM_CALLOUT_IO_PACKET0; or none
    uint64_t flow_handle = 0;
    bool can_pend = false;           // a first authorization; otherwise FwpsPendOperation0 gives STATUS_FWP_CANNOT_PEND
    OperationCompletion on_complete; // needed where can_pend
    PacketOrigin *origin = nullptr;
};

struct ClassifyResult
{
    enum Action : uint8_t
    {
        kPermit,
        kBlock
    };

    Action action = kPermit;
    bool absorbed = false;   // meaningful with kBlock: discard silently
    bool pended = false;     // on_complete will be called
    bool has_copies = false; // the driver kept a copy: the origin will resolve (or has, when injected inside)
    bool referenced =
        false; // FwpsReferenceNetBufferList0 or a clone holds layer_data: free it by ReleaseWhenUnreferenced
};

// One injection, as the network stack sees it. The pointers are valid until Deliver returns.
struct Injection
{
    enum Kind : uint8_t
    {
        kNetworkSend,
        kNetworkReceive,
        kTransportSend,
        kTransportReceive
    };

    Kind kind = kNetworkSend;
    ADDRESS_FAMILY family = AF_UNSPEC; // AF_UNSPEC where the handle was made for both
    uint32_t compartment = 0;
    IF_INDEX interface_index = 0; // receive only
    IF_INDEX sub_interface_index = 0;
    uint64_t endpoint_handle = 0; // transport send only, as all below up to the list
    std::array<uint8_t, 16> remote_address{};
    SCOPE_ID remote_scope{};
    const WSACMSGHDR *control_data = nullptr;
    uint32_t control_data_length = 0;
    const uint8_t *header_include = nullptr; // the IP header that a raw socket's owner made
    uint32_t header_include_length = 0;
    NET_BUFFER_LIST *net_buffer_list = nullptr; // the driver's; one list, Next is null
    PacketOrigin *origin = nullptr;             // of the packet that this is a copy of, or none
};

class InjectionTarget
{
  public:
    virtual ~InjectionTarget() = default;

    // Takes the packet into the stack: it is classified again, with its injection state, and goes its way. Called at
    // DISPATCH_LEVEL once an injection. A net buffer list of the target's own that stands for the injected one takes
    // its injection state over by Engine::CopyInjectionState. The result becomes the status of the net buffer list.
    virtual NTSTATUS Deliver(const Injection &injection) = 0;
};

// Told of each injection before it is delivered, for tests.
using InjectionWatcher = std::function<void(const Injection &injection)>;

class Reauthorizer
{
  public:
    virtual ~Reauthorizer() = default;

    // The filters of an ALE_AUTH layer changed. Called at PASSIVE_LEVEL from the scheduler; changes that came together
    // may give one call.
    virtual void FiltersChanged(uint16_t layer) = 0;
};

enum class ForeignAction : uint8_t
{
    kContinue,
    kSoftPermit,
    kHardPermit,
    kSoftBlock,
    kHardBlock,
    kVeto // a callout that blocks what a higher sublayer permitted for good
};

// How injections behave, for tests.
struct InjectionBehavior
{
    enum Mode : uint8_t
    {
        kDeferred, // delivered and completed by the scheduler at DISPATCH_LEVEL
        kInline,   // delivered and completed before the call returns
        kFail      // the call returns `status`, nothing is delivered, the completion function is not called
    };

    Mode mode = kDeferred;
    NTSTATUS status =
        STATUS_SUCCESS; // kFail: of the call; otherwise given to completions in place of Deliver's, if an error
};

struct EngineCounters
{
    uint64_t classifies = 0; // counted in verifier mode only
    uint64_t pended_now = 0;
    uint64_t pended_total = 0;
    uint64_t injections_now = 0;
    uint64_t injections_total = 0;
    uint64_t net_buffer_lists_now = 0; // allocated by the driver
};

class EngineState;

class Engine
{
  public:
    explicit Engine(Machine &machine);
    ~Engine(); // bugchecks on what the driver left behind

    Engine(const Engine &) = delete;
    Engine &operator=(const Engine &) = delete;

    // The machine's filters of input.layer decide. Allocates nothing unless an operation is pended.
    ClassifyResult Classify(const ClassifyInput &input);

    // Whether classifying at the layer can matter at all.
    bool has_filters(uint16_t layer) const;

    // Of which nobody can tell whose they are.
    uint64_t objects_without_provider() const;

    // For a layer_data whose classify said `referenced`: calls `release` once the driver has let go of it.
    void ReleaseWhenUnreferenced(NET_BUFFER_LIST *net_buffer_list, std::function<void()> release);

    // `to` stands for `from` from now on: FwpsQueryPacketInjectionState0 answers for it as for `from`.
    static void CopyInjectionState(const NET_BUFFER_LIST *from, NET_BUFFER_LIST *to);

    // A filter of another product, in a sublayer of its own of the given weight, without conditions.
    uint64_t AddForeignFilter(uint16_t layer, uint16_t weight, ForeignAction action);
    void RemoveForeignFilter(uint64_t id);

    // Set and cleared while nothing is classified or in flight.
    void SetInjectionTarget(InjectionTarget *target);
    void SetReauthorizer(Reauthorizer *reauthorizer);

    // Once, before the first injection.
    void SetInjectionWatcher(InjectionWatcher watcher);

    void SetInjectionBehavior(const InjectionBehavior &behavior);

    // The next FwpsPendOperation0 calls return `status` (an error) instead of pending; STATUS_SUCCESS ends it.
    void SetPendFailure(NTSTATUS status);

    // The filter engine's service stops and starts: it runs to begin with. When it has stopped, its sessions have
    // ended, and what they held is gone. Drivers are told on the calling thread.
    void SetServiceState(FWPM_SERVICE_STATE state);

    // What the driver must have given back once its unload routine has returned: subscriptions, sessions, filters,
    // callouts, injection handles, pended operations, net buffer lists. Bugchecks on the first that is left.
    void CheckUnloaded() const;

    EngineCounters counters() const;

    EngineState &state() { return *state_; } // of the Fwpm*/Fwps* functions

  private:
    std::unique_ptr<EngineState> state_;
};

} // namespace sim::wfp
