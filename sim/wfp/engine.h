// The filter engine of a simulated computer. The network stack calls Classify; tests adjust the engine.
// It also implements the driver's Fwpm* and Fwps* calls.
//
// Concurrency: every public method may be called from any thread.
// No engine lock is held while callouts, completions, reauthorizations, deliveries or origin callbacks run.
// Each of these may therefore call the engine again.
// Classify takes no lock: it reads an immutable snapshot of its layer's filters.
// Reader counts protect the snapshot (read_section.h).
#pragma once

#include <ntddk.h>

#include <ndis.h>

#include <fwpsk.h>

#include <fwpmk.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "packet_origin.h"

namespace sim
{
class Machine;
}

namespace sim::wfp
{

// Called once when the driver completes the operation that it pended, on any thread, at PASSIVE or DISPATCH level.
// It may run before Classify returns, if another thread completes at once, but never inside the callout that pended.
// `net_buffer_list` is the driver's argument of FwpsCompleteOperation0, valid within that call; later it is nullptr.
using OperationCompletion = std::function<void(NET_BUFFER_LIST *net_buffer_list)>;

struct ClassifyInput
{
    uint16_t layer = 0;
    FWPS_INCOMING_VALUES0 *values = nullptr;            // layerId and valueCount are set
    FWPS_INCOMING_METADATA_VALUES0 *metadata = nullptr; // the engine sets completionHandle at the ALE_AUTH layers
    void *layer_data = nullptr; // NET_BUFFER_LIST chain; at STREAM an FWPS_STREAM_CALLOUT_IO_PACKET0; or none
    uint64_t flow_handle = 0;
    // Engine::filter_epoch() when the connection was established. By default it is newer than every filter.
    uint64_t established = UINT64_MAX;
    bool can_pend = false;           // otherwise FwpsPendOperation0 returns STATUS_FWP_CANNOT_PEND
    OperationCompletion on_complete; // required where can_pend is set
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
    bool absorbed = false;   // with kBlock: discard without an error
    bool pended = false;     // on_complete will be called
    bool has_copies = false; // the driver kept a copy: the origin resolves later, or has, if it was injected inside
    bool referenced =
        false; // FwpsReferenceNetBufferList0 or a clone holds layer_data: free it by ReleaseWhenUnreferenced
};

// One injection, as the network stack receives it. The pointers are valid until Deliver returns.
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
    ADDRESS_FAMILY family = AF_UNSPEC; // AF_UNSPEC where the handle is for both
    uint32_t compartment = 0;
    IF_INDEX interface_index = 0; // receive only
    IF_INDEX sub_interface_index = 0;
    uint64_t endpoint_handle = 0; // transport send only, as are all members up to the list
    std::array<uint8_t, 16> remote_address{};
    SCOPE_ID remote_scope{};
    const WSACMSGHDR *control_data = nullptr;
    uint32_t control_data_length = 0;
    const uint8_t *header_include = nullptr; // the IP header that the raw socket's owner built
    uint32_t header_include_length = 0;
    NET_BUFFER_LIST *net_buffer_list = nullptr; // the driver's single list; Next is null
    PacketOrigin *origin = nullptr;             // of the packet that this is a copy of, or nullptr
};

class InjectionTarget
{
  public:
    virtual ~InjectionTarget() = default;

    // Delivers the packet into the stack: it is classified again, with its injection state, and continues.
    // Called once for each injection, at DISPATCH_LEVEL. The result becomes the status of the net buffer list.
    // If the target replaces the injected list by another, Engine::CopyInjectionState copies the injection state.
    virtual NTSTATUS Deliver(const Injection &injection) = 0;
};

// For tests: called with each injection before it is delivered.
using InjectionWatcher = std::function<void(const Injection &injection)>;

class Reauthorizer
{
  public:
    virtual ~Reauthorizer() = default;

    // The filters of an ALE_AUTH layer changed. Called at PASSIVE_LEVEL from the scheduler.
    // Several changes at once may result in one call.
    virtual void FiltersChanged(uint16_t layer) = 0;
};

class FlowOwner
{
  public:
    virtual ~FlowOwner() = default;

    // Returns whether this is the handle of a flow that can be aborted. Called inside FwpsFlowAbort0.
    virtual bool CanAbort(uint64_t flow_handle) = 0;

    // Ends the flow, if it still exists. Called at DISPATCH_LEVEL from the scheduler.
    virtual void Abort(uint64_t flow_handle) = 0;
};

enum class ForeignAction : uint8_t
{
    kContinue,
    kSoftPermit,
    kHardPermit,
    kSoftBlock,
    kHardBlock,
    kVeto // a callout that blocks what a higher sublayer permitted finally
};

// For tests: another product's transaction, which keeps every other session waiting.
struct ForeignTransaction
{
    bool read_only = false;          // other sessions may still begin read-only transactions
    bool blocks_every_close = false; // closing a session waits even if the session owns no objects
};

// For tests: groups of Fwpm* functions. A mask names several of them.
enum ManagementCall : uint32_t
{
    kSubscribeCall = 0x01,
    kOpenCall = 0x02,
    kCloseCall = 0x04,
    kBeginCall = 0x08,
    kCommitCall = 0x10,
    kAbortCall = 0x20,
    kAddCall = 0x40, // of a provider, a sublayer, a callout or a filter
    kDeleteCall = 0x80,
    kEveryCall = 0xFF
};

// For tests: the order in which a commit replaces the filters of its layers.
enum class PublishOrder : uint8_t
{
    kPacketLayersFirst, // in the order of the layers' ids
    kAleLayersFirst     // in the reverse order
};

// For tests: called between two layers of one commit, on the committing thread, without a lock.
// It may use the network. It must not change the engine's objects.
using PublishWatcher = std::function<void(uint16_t published, uint16_t next)>;

// For tests: how injections behave.
struct InjectionBehavior
{
    enum Mode : uint8_t
    {
        kDeferred, // the scheduler delivers and completes at DISPATCH_LEVEL
        kInline,   // delivered and completed before the call returns
        kFail      // the call returns `status`; nothing is delivered and no completion function is called
    };

    Mode mode = kDeferred;
    NTSTATUS status =
        STATUS_SUCCESS;   // kFail: of the call; otherwise given to completions in place of Deliver's, if an error
    uint32_t kinds = ~0u; // 1 << Injection::Kind: the injections that fail. Others are delivered as by kDeferred.
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

// Which offloads of the network adapters the registered callouts leave on for all traffic.
struct OffloadState
{
    bool checksums_and_large_send = true;
    bool rsc = true; // TCP receive segment coalescing
    bool uso = true; // UDP segmentation
    bool uro = true; // UDP receive segment coalescing

    bool all() const { return checksums_and_large_send && rsc && uso && uro; }
};

class EngineState;

class Engine
{
  public:
    explicit Engine(Machine &machine);
    ~Engine(); // bugchecks on everything that the driver left

    Engine(const Engine &) = delete;
    Engine &operator=(const Engine &) = delete;

    // The machine's filters of input.layer decide. Allocates nothing unless an operation is pended.
    ClassifyResult Classify(const ClassifyInput &input);

    // Returns false where classifying at the layer has no effect.
    bool has_filters(uint16_t layer) const;

    // The number of layers that have filters.
    uint32_t filtered_layers() const;

    OffloadState offloads() const;

    // Grows with each commit that changes filters. Tells whether a connection is older than a filter.
    uint64_t filter_epoch() const;

    // The number of objects without a provider, whose owner an administrator cannot identify.
    uint64_t objects_without_provider() const;

    // The number of the driver's filters that would block if their callout were not registered.
    uint64_t filters_that_block_without_callout() const;

    // For a `layer_data` whose classify returned `referenced`: calls `release` once the driver has dereferenced it.
    void ReleaseWhenUnreferenced(NET_BUFFER_LIST *net_buffer_list, std::function<void()> release);

    // From now on `to` stands for `from`: FwpsQueryPacketInjectionState0 returns the same for both.
    static void CopyInjectionState(const NET_BUFFER_LIST *from, NET_BUFFER_LIST *to);

    // What FwpsGetPacketListSecurityInformation0 returns for a received list and its clones.
    static void SetSecurity(NET_BUFFER_LIST *list, const FWPS_PACKET_LIST_INBOUND_IPSEC_INFORMATION0 &security);

    // Adds a filter of another product, without conditions, in a new sublayer of the given weight.
    uint64_t AddForeignFilter(uint16_t layer, uint16_t weight, ForeignAction action);
    void RemoveForeignFilter(uint64_t id);

    // Opens and ends a transaction of another product. Filters of other products can still be added and removed.
    // Meanwhile FwpmTransactionBegin0 and implicit transactions wait for txnWaitTimeoutInMSec of the machine's time.
    // FwpmEngineClose0 of a dynamic session that owns objects waits without a limit.
    void BeginForeignTransaction(const ForeignTransaction &transaction = {});
    void EndForeignTransaction();

    // From now on the functions of the mask fail with `status`; STATUS_SUCCESS ends this.
    // A refused FwpmEngineClose0 still ends its session. A refused FwpmTransactionAbort0 leaves the transaction open.
    void Refuse(NTSTATUS status, uint32_t calls = kEveryCall);

    // Ends all sessions and removes their objects, as an RPC rundown does: the service's state does not change.
    // Open transactions are aborted. Every later call on a session but closing fails with `status`.
    void LoseSessions(NTSTATUS status = STATUS_FWP_SESSION_ABORTED);

    // The next FwpsCalloutUnregisterById0 calls for each callout return these errors, one after the other.
    void SetUnregisterFailures(std::vector<NTSTATUS> statuses);

    // Classifies between two layers of one commit see the new filters of the one and the old filters of the other.
    void SetPublishing(PublishOrder order, PublishWatcher between = {});

    // Set and cleared only while nothing is classified or in flight.
    void SetInjectionTarget(InjectionTarget *target);
    void SetReauthorizer(Reauthorizer *reauthorizer);
    void SetFlowOwner(FlowOwner *owner);

    // Set once, before the first injection.
    void SetInjectionWatcher(InjectionWatcher watcher);

    void SetInjectionBehavior(const InjectionBehavior &behavior);

    // The next FwpsPendOperation0 calls return `status` (an error) instead of pending; STATUS_SUCCESS ends this.
    void SetPendFailure(NTSTATUS status);

    // Starts or stops the filter engine's service, which runs at first. Drivers are notified on the calling thread.
    // When it stops, its sessions end, and everything that they hold is removed.
    void SetServiceState(FWPM_SERVICE_STATE state);

    // Bugchecks on the first object that the driver still holds after its unload routine has returned.
    // These are subscriptions, sessions, filters, callouts, injection handles, pended operations and net buffer lists.
    void CheckUnloaded() const;

    EngineCounters counters() const;

    EngineState &state() { return *state_; } // for the Fwpm*/Fwps* functions

  private:
    std::unique_ptr<EngineState> state_;
};

} // namespace sim::wfp
