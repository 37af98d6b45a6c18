// Sessions, transactions and the objects that they hold. Publishes a snapshot of each layer for classifies.
//
// Concurrency: one mutex guards everything but the published snapshots.
// notifyFn runs without the mutex, inside the open transaction, so nothing else can change the objects.
// A call that must wait for a transaction waits in the scheduler, so the machine's deferred work goes on.
// Replaced snapshots are freed once no classify can be reading them.
#pragma once

#include "engine.h"
#include "layers.h"
#include "objects.h"
#include "read_section.h"
#include "snapshot.h"

#include <array>
#include <atomic>
#include <bitset>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace sim::wfp
{

using LayerSet = std::bitset<kLayerIds>;

class Management
{
  public:
    // `filters_changed` is called without a lock after a commit that changed filters of these layers.
    Management(Machine &machine, std::function<void(const LayerSet &)> filters_changed);
    ~Management();

    Management(const Management &) = delete;
    Management &operator=(const Management &) = delete;

    NTSTATUS OpenSession(const FWPM_SESSION0 *session, HANDLE *handle);
    NTSTATUS CloseSession(HANDLE handle);
    // Closes the session without waiting for other products.
    NTSTATUS AbandonSession(HANDLE handle);
    // Removes everything that the sessions hold. From then on, every call on them but closing fails with `status`.
    void EndSessions(NTSTATUS status);

    NTSTATUS Begin(HANDLE handle, UINT32 flags);
    NTSTATUS Commit(HANDLE handle);
    NTSTATUS Abort(HANDLE handle);
    // The driver tried to abort the session's transaction, and the engine refused.
    void RecordRefusedAbort(HANDLE handle);

    void BeginForeign(const ForeignTransaction &transaction);
    void EndForeign();

    NTSTATUS AddProvider(HANDLE handle, const FWPM_PROVIDER0 *provider);
    NTSTATUS AddSubLayer(HANDLE handle, const FWPM_SUBLAYER0 *sub_layer);
    NTSTATUS AddCallout(HANDLE handle, const FWPM_CALLOUT0 *callout, UINT32 *id);
    NTSTATUS AddFilter(HANDLE handle, const FWPM_FILTER0 *filter, UINT64 *id);
    NTSTATUS DeleteFilter(HANDLE handle, UINT64 id);

    NTSTATUS RegisterCallout(const FWPS_CALLOUT2 *callout, UINT32 *id);
    // Waits for classifies that run the callout. The calling thread must not be inside a classify.
    NTSTATUS UnregisterCallout(UINT32 id);
    void SetUnregisterFailures(std::vector<NTSTATUS> statuses);
    // For faults: returns an error once for each callout, because no callout stays busy forever.
    // The documented errors and an undocumented one take turns.
    NTSTATUS TakeUnregisterFault(UINT32 id);

    uint64_t AddForeignFilter(uint16_t layer, uint16_t weight, ForeignAction action);
    void RemoveForeignFilter(uint64_t id);

    void SetPublishing(PublishOrder order, PublishWatcher between);

    ReadSection &readers() { return readers_; }

    // Called inside a ReadSection::Guard of readers(). Returns nullptr if the layer has no filter.
    const LayerSnapshot *snapshot(uint16_t layer) const { return published_[layer].load(); }

    OffloadState offloads() const;
    uint64_t filter_epoch() const { return filter_epoch_.load(); }

    // Counts sublayers, callouts and filters.
    uint64_t CountObjectsWithoutProvider() const;

    uint64_t CountFiltersThatBlockWithoutCallout() const;

    // Bugchecks on everything that a driver may not leave.
    void CheckUnloaded() const;

  private:
    struct Session
    {
        SessionId id = 0;
        bool dynamic = false;
        NTSTATUS ended = STATUS_SUCCESS; // an error once the engine has ended the session
        uint32_t wait_milliseconds = 0;
        bool is_internal = false;     // acts for the engine or another product: no session can end under it
        bool ignores_foreign = false; // does not wait for another product's transaction
    };

    struct Transaction
    {
        SessionId owner = 0;
        bool is_internal = false; // of the engine, which removes the objects of an ended session
        bool read_only = false;
        bool committing = false;
        bool abort_refused = false;
        std::thread::id committer;
        Configuration working;
    };

    struct Retired
    {
        std::unique_ptr<const LayerSnapshot> snapshot;
        uint64_t ticket = 0;
    };

    struct Change
    {
        std::vector<std::shared_ptr<Filter>> added;
        std::vector<std::shared_ptr<Filter>> removed;
        LayerSet layers;
    };

    using Lock = std::unique_lock<std::mutex>;
    using Edit = std::function<NTSTATUS(const Session &, Configuration &)>;

    static Session ForeignSession();
    NTSTATUS FindSessionLocked(HANDLE handle, Session *session) const;
    NTSTATUS StateOfLocked(const Session &session) const;
    NTSTATUS TakeSessionLocked(HANDLE handle, Session *session);
    bool OwnsObjectsLocked(SessionId id) const;
    void WaitToClose(const Session &session);
    void RemoveObjects(Session session);
    bool MayBeginLocked(const Session &session, bool read_only) const;
    template <typename Ready> bool WaitLocked(Lock &lock, uint32_t milliseconds, const Ready &ready);
    NTSTATUS WithConfiguration(HANDLE handle, const Edit &edit);
    NTSTATUS BeginLocked(Lock &lock, const Session &session, bool read_only);
    NTSTATUS CommitLocked(Lock &lock);
    void EndTransactionLocked();
    NTSTATUS Edited(const Session &session, const Edit &edit);

    Change DifferenceLocked() const;
    NTSTATUS MakeFilterLocked(const Configuration &configuration, const FWPM_FILTER0 &filter, Filter *made);
    UINT32 CalloutIdLocked(const GUID &key);
    LayerSet LayersOfLocked(UINT32 callout) const;
    void WaitForReadersLocked(Lock &lock);
    std::unique_ptr<LayerSnapshot> MakeSnapshotLocked(uint16_t layer) const;
    void PublishLocked(uint16_t layer);
    void PublishLayersLocked(Lock &lock, const LayerSet &layers);
    void ReclaimLocked();
    GUID MakeKeyLocked();

    Machine &machine_;
    const std::function<void(const LayerSet &)> filters_changed_;

    mutable std::mutex mutex_;
    std::atomic<uint64_t> changes_{0}; // grows when a wait may be over
    std::map<HANDLE, Session> sessions_;
    std::unique_ptr<Transaction> transaction_;
    std::optional<ForeignTransaction> foreign_;
    PublishOrder publish_order_ = PublishOrder::kPacketLayersFirst;
    PublishWatcher between_layers_;
    std::vector<NTSTATUS> unregister_failures_;
    size_t unregister_faults_ = 0;
    Configuration committed_;
    RuntimeCallouts runtime_callouts_;
    std::map<GUID, UINT32, GuidLess> callout_ids_;
    std::atomic<uint64_t> filter_epoch_{0}; // written under mutex_
    uint64_t last_session_ = 0;
    uint64_t last_filter_ = 0;
    uint64_t last_order_ = 0;
    uint64_t last_key_ = 0;
    std::vector<Retired> retired_;

    ReadSection readers_;
    std::array<std::atomic<const LayerSnapshot *>, kLayerIds> published_{};
};

} // namespace sim::wfp
