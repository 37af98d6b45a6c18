#include "management.h"

#include "handles.h"
#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/clock.h"
#include "nt/scheduler.h"
#include "offloads.h"

#include <algorithm>
#include <utility>

namespace sim::wfp
{
namespace
{

constexpr SessionId kForeignSession = ~SessionId{0};
constexpr uint32_t kDefaultWaitMilliseconds = 15000;
constexpr uint32_t kWaitForever = 0xFFFFFFFF;
constexpr uint64_t kTicksPerMillisecond = nt::Clock::kTicksPerSecond / 1000;
constexpr uint8_t kHighestWeightRange = 15;
constexpr unsigned kWeightRangeShift = 60;

bool IsZero(const GUID &key)
{
    const GUID zero{};
    return std::memcmp(&key, &zero, sizeof(GUID)) == 0;
}

template <typename Objects, typename Condition> void EraseIf(Objects &objects, Condition condition)
{
    for (auto entry = objects.begin(); entry != objects.end();)
    {
        entry = condition(*entry->second) ? objects.erase(entry) : std::next(entry);
    }
}

bool IsCallout(FilterKind kind)
{
    return kind == FilterKind::kTerminatingCallout || kind == FilterKind::kInspectionCallout;
}

NTSTATUS KindOf(FWP_ACTION_TYPE action, FilterKind *kind)
{
    switch (action)
    {
    case FWP_ACTION_PERMIT:
        *kind = FilterKind::kPermit;
        return STATUS_SUCCESS;
    case FWP_ACTION_BLOCK:
        *kind = FilterKind::kBlock;
        return STATUS_SUCCESS;
    case FWP_ACTION_CALLOUT_TERMINATING:
    case FWP_ACTION_CALLOUT_UNKNOWN:
        *kind = FilterKind::kTerminatingCallout;
        return STATUS_SUCCESS;
    case FWP_ACTION_CALLOUT_INSPECTION:
        *kind = FilterKind::kInspectionCallout;
        return STATUS_SUCCESS;
    default:
        return STATUS_FWP_INVALID_ACTION_TYPE;
    }
}

NTSTATUS WeightOf(const FWP_VALUE0 &value, UINT64 *weight)
{
    switch (value.type)
    {
    case FWP_EMPTY:
        *weight = 0;
        return STATUS_SUCCESS;
    case FWP_UINT8:
        *weight = static_cast<UINT64>(value.uint8) << kWeightRangeShift;
        return value.uint8 <= kHighestWeightRange ? STATUS_SUCCESS : STATUS_FWP_INVALID_WEIGHT;
    case FWP_UINT64:
        if (value.uint64 == nullptr)
        {
            return STATUS_FWP_NULL_POINTER;
        }
        *weight = *value.uint64;
        return STATUS_SUCCESS;
    default:
        return STATUS_FWP_INVALID_WEIGHT;
    }
}

// Returns nullptr for a callout that is not registered, or being unregistered.
const FWPS_CALLOUT2 *FunctionsOf(const std::map<UINT32, RuntimeCallout> &callouts, const Filter &filter)
{
    const auto callout = callouts.find(filter.runtime.action.calloutId);

    return callout == callouts.end() || callout->second.unregistering ? nullptr : &callout->second.functions;
}

void NotifyRemoved(const std::vector<std::shared_ptr<Filter>> &filters,
                   const std::map<UINT32, RuntimeCallout> &callouts)
{
    for (const std::shared_ptr<Filter> &filter : filters)
    {
        const FWPS_CALLOUT2 *functions = FunctionsOf(callouts, *filter);

        if (IsCallout(filter->kind) && functions != nullptr)
        {
            functions->notifyFn(FWPS_CALLOUT_NOTIFY_DELETE_FILTER, nullptr, &filter->runtime);
        }
    }
}

NTSTATUS NotifyAdded(const std::vector<std::shared_ptr<Filter>> &filters,
                     const std::map<UINT32, RuntimeCallout> &callouts)
{
    std::vector<std::shared_ptr<Filter>> accepted;

    for (const std::shared_ptr<Filter> &filter : filters)
    {
        const FWPS_CALLOUT2 *functions = FunctionsOf(callouts, *filter);

        if (!IsCallout(filter->kind) || functions == nullptr)
        {
            continue;
        }

        const NTSTATUS status = functions->notifyFn(FWPS_CALLOUT_NOTIFY_ADD_FILTER, &filter->key, &filter->runtime);

        if (!NT_SUCCESS(status))
        {
            NotifyRemoved(accepted, callouts);
            return status;
        }
        accepted.push_back(filter);
    }
    return STATUS_SUCCESS;
}

// A callout at STREAM needs a flag for connections that were established before its filter came ("Stream Inspection").
bool SeesOldConnections(uint16_t layer, const FWPS_CALLOUT2 *functions)
{
    return LayerById(layer).kind != LayerKind::kStream || functions == nullptr ||
           (functions->flags & FWP_CALLOUT_FLAG_ALLOW_MID_STREAM_INSPECTION) != 0;
}

// Objects may have no provider.
bool FindProvider(const Configuration &configuration, const GUID *key, GUID *provider)
{
    if (key == nullptr)
    {
        return true;
    }
    *provider = *key;
    return configuration.providers.count(*key) != 0;
}

template <typename Objects> uint64_t CountWithoutProvider(const Objects &objects)
{
    return static_cast<uint64_t>(std::count_if(objects.begin(), objects.end(),
                                               [](const auto &object) { return IsZero(object.second->provider); }));
}

} // namespace

Management::Management(Machine &machine, std::function<void(const LayerSet &)> filters_changed)
    : machine_(machine), filters_changed_(std::move(filters_changed))
{
}

Management::~Management()
{
    for (std::atomic<const LayerSnapshot *> &published : published_)
    {
        delete published.load();
    }
}

// Sessions and transactions

NTSTATUS Management::OpenSession(const FWPM_SESSION0 *session, HANDLE *handle)
{
    const Lock lock(mutex_);
    Session made;

    made.id = ++last_session_;
    made.dynamic = session != nullptr && (session->flags & FWPM_SESSION_FLAG_DYNAMIC) != 0;
    made.wait_milliseconds = session != nullptr && session->txnWaitTimeoutInMSec != 0 ? session->txnWaitTimeoutInMSec
                                                                                      : kDefaultWaitMilliseconds;
    *handle = MakeHandle(HandleKind::kSession, made.id);
    sessions_[*handle] = made;
    return STATUS_SUCCESS;
}

NTSTATUS Management::CloseSession(HANDLE handle)
{
    Session session;

    {
        const Lock lock(mutex_);
        const NTSTATUS status = TakeSessionLocked(handle, &session);

        if (!NT_SUCCESS(status))
        {
            return status;
        }
    }
    WaitToClose(session);
    return STATUS_SUCCESS;
}

void Management::WaitToClose(const Session &session)
{
    Lock lock(mutex_);
    const bool removes = session.dynamic && NT_SUCCESS(session.ended) && OwnsObjectsLocked(session.id);

    WaitLocked(lock, kWaitForever, [&] { return removes || !foreign_ || !foreign_->blocks_every_close; });
    lock.unlock();
    if (removes)
    {
        RemoveObjects(session);
    }
}

NTSTATUS Management::AbandonSession(HANDLE handle)
{
    Session session;

    {
        const Lock lock(mutex_);
        const NTSTATUS status = TakeSessionLocked(handle, &session);

        if (!NT_SUCCESS(status))
        {
            return status;
        }
    }
    if (session.dynamic && NT_SUCCESS(session.ended))
    {
        session.ignores_foreign = true;
        RemoveObjects(session);
    }
    return STATUS_SUCCESS;
}

NTSTATUS Management::TakeSessionLocked(HANDLE handle, Session *session)
{
    const auto found = sessions_.find(handle);

    if (found == sessions_.end())
    {
        return STATUS_INVALID_HANDLE;
    }
    *session = found->second;
    if (transaction_ != nullptr && transaction_->owner == session->id && !transaction_->is_internal)
    {
        if (!transaction_->abort_refused)
        {
            Bugcheck("WFP_TRANSACTION_OPEN", "a session was closed with its transaction neither committed nor aborted");
        }
        EndTransactionLocked();
    }
    sessions_.erase(found);
    return STATUS_SUCCESS;
}

bool Management::OwnsObjectsLocked(SessionId id) const
{
    const auto any_owned = [&](const auto &objects)
    {
        return std::any_of(objects.begin(), objects.end(),
                           [&](const auto &entry) { return entry.second->owner == id; });
    };

    return any_owned(committed_.filters) || any_owned(committed_.callouts) || any_owned(committed_.sub_layers) ||
           any_owned(committed_.providers);
}

void Management::EndSessions(NTSTATUS status)
{
    std::vector<Session> ended;

    {
        Lock lock(mutex_);

        WaitLocked(lock, kWaitForever, [&] { return transaction_ == nullptr || !transaction_->committing; });
        for (auto &[handle, session] : sessions_)
        {
            if (NT_SUCCESS(session.ended))
            {
                session.ended = status;
                ended.push_back(session);
            }
        }
        EndTransactionLocked();
    }
    for (Session &session : ended)
    {
        session.ignores_foreign = true;
        RemoveObjects(session);
    }
}

void Management::RemoveObjects(Session session)
{
    session.wait_milliseconds = kWaitForever;
    session.is_internal = true;
    Edited(
        session,
        [](const Session &owner, Configuration &configuration)
        {
            EraseIf(configuration.filters,
                    [&](const Filter &filter)
                    {
                        return filter.owner == owner.id ||
                               configuration.sub_layers.at(filter.sub_layer)->owner == owner.id;
                    });
            EraseIf(configuration.callouts, [&](const ManagedCallout &callout) { return callout.owner == owner.id; });
            EraseIf(configuration.sub_layers, [&](const SubLayer &sub_layer) { return sub_layer.owner == owner.id; });
            EraseIf(configuration.providers, [&](const Provider &provider) { return provider.owner == owner.id; });
            return STATUS_SUCCESS;
        });
}

NTSTATUS Management::FindSessionLocked(HANDLE handle, Session *session) const
{
    const auto found = sessions_.find(handle);

    if (found == sessions_.end())
    {
        return STATUS_INVALID_HANDLE;
    }
    *session = found->second;
    return session->ended;
}

// A session may end while one of its calls waits.
NTSTATUS Management::StateOfLocked(const Session &session) const
{
    Session now;

    return session.is_internal ? STATUS_SUCCESS : FindSessionLocked(MakeHandle(HandleKind::kSession, session.id), &now);
}

NTSTATUS Management::Begin(HANDLE handle, UINT32 flags)
{
    Lock lock(mutex_);
    Session session;
    const NTSTATUS status = FindSessionLocked(handle, &session);

    if (status == STATUS_INVALID_HANDLE)
    {
        // On Windows a handle that is no longer valid points to freed memory.
        Bugcheck("WFP_INVALID_HANDLE", "FwpmTransactionBegin0: %p is no engine handle", handle);
    }
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    if ((flags & ~static_cast<UINT32>(FWPM_TXN_READ_ONLY)) != 0)
    {
        return STATUS_FWP_INVALID_FLAGS;
    }
    return BeginLocked(lock, session, (flags & FWPM_TXN_READ_ONLY) != 0);
}

NTSTATUS Management::Commit(HANDLE handle)
{
    Lock lock(mutex_);
    Session session;
    const NTSTATUS status = FindSessionLocked(handle, &session);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    if (transaction_ == nullptr || transaction_->owner != session.id || transaction_->committing)
    {
        return STATUS_FWP_NO_TXN_IN_PROGRESS;
    }
    return CommitLocked(lock);
}

NTSTATUS Management::Abort(HANDLE handle)
{
    const Lock lock(mutex_);
    Session session;
    const NTSTATUS status = FindSessionLocked(handle, &session);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    if (transaction_ == nullptr || transaction_->owner != session.id || transaction_->committing)
    {
        return STATUS_FWP_NO_TXN_IN_PROGRESS;
    }
    EndTransactionLocked();
    return STATUS_SUCCESS;
}

void Management::RecordRefusedAbort(HANDLE handle)
{
    const Lock lock(mutex_);
    Session session;

    if (NT_SUCCESS(FindSessionLocked(handle, &session)) && transaction_ != nullptr && transaction_->owner == session.id)
    {
        transaction_->abort_refused = true;
    }
}

Management::Session Management::ForeignSession()
{
    Session session;

    session.id = kForeignSession;
    session.wait_milliseconds = kWaitForever;
    session.is_internal = true;
    session.ignores_foreign = true;
    return session;
}

void Management::BeginForeign(const ForeignTransaction &transaction)
{
    Lock lock(mutex_);

    if (foreign_)
    {
        Bugcheck("WFP_TRANSACTION_OPEN", "another product has a transaction already");
    }
    WaitLocked(lock, kWaitForever, [&] { return transaction_ == nullptr; });
    foreign_ = transaction;
}

void Management::EndForeign()
{
    const Lock lock(mutex_);

    foreign_.reset();
    changes_.fetch_add(1);
    machine_.scheduler().Wake();
}

bool Management::MayBeginLocked(const Session &session, bool read_only) const
{
    return transaction_ == nullptr && (!foreign_ || session.ignores_foreign || (read_only && foreign_->read_only));
}

// Waits in the machine's time. The condition is called with the mutex, never under the scheduler's lock.
template <typename Ready> bool Management::WaitLocked(Lock &lock, uint32_t milliseconds, const Ready &ready)
{
    const uint64_t deadline = milliseconds == kWaitForever
                                  ? nt::Scheduler::kNoDeadline
                                  : machine_.clock().UnbiasedTime() + milliseconds * kTicksPerMillisecond;

    while (!ready())
    {
        const uint64_t seen = changes_.load();

        lock.unlock();
        const bool changed = machine_.scheduler().WaitUntilTime([&] { return changes_.load() != seen; }, deadline);
        lock.lock();
        if (!changed)
        {
            return ready();
        }
    }
    return true;
}

NTSTATUS Management::BeginLocked(Lock &lock, const Session &session, bool read_only)
{
    if (transaction_ != nullptr && transaction_->owner == session.id)
    {
        return STATUS_FWP_TXN_IN_PROGRESS;
    }

    const bool waited =
        WaitLocked(lock, session.wait_milliseconds,
                   [&] { return MayBeginLocked(session, read_only) || !NT_SUCCESS(StateOfLocked(session)); });
    const NTSTATUS status = StateOfLocked(session);

    if (!NT_SUCCESS(status) || !waited)
    {
        return NT_SUCCESS(status) ? STATUS_FWP_TIMEOUT : status;
    }

    transaction_ = std::make_unique<Transaction>();
    transaction_->owner = session.id;
    transaction_->is_internal = session.is_internal;
    transaction_->read_only = read_only;
    transaction_->working = committed_;
    return STATUS_SUCCESS;
}

NTSTATUS Management::CommitLocked(Lock &lock)
{
    transaction_->committing = true;
    transaction_->committer = std::this_thread::get_id();

    const Change change = DifferenceLocked();
    const RuntimeCallouts callouts = runtime_callouts_;

    lock.unlock();
    const NTSTATUS status = NotifyAdded(change.added, callouts);
    lock.lock();

    if (!NT_SUCCESS(status))
    {
        EndTransactionLocked();
        return status;
    }

    // A connection that is established before the new filters are published is older than they are.
    const uint64_t epoch = filter_epoch_.load() + 1;

    for (const std::shared_ptr<Filter> &filter : change.added)
    {
        filter->epoch = epoch;
    }
    committed_ = std::move(transaction_->working);
    PublishLayersLocked(lock, change.layers);
    filter_epoch_.store(epoch);

    lock.unlock();
    NotifyRemoved(change.removed, callouts);
    lock.lock();

    ReclaimLocked();
    EndTransactionLocked();
    lock.unlock();
    if (change.layers.any())
    {
        filters_changed_(change.layers);
    }
    return STATUS_SUCCESS;
}

void Management::EndTransactionLocked()
{
    transaction_.reset();
    changes_.fetch_add(1);
    machine_.scheduler().Wake();
}

NTSTATUS Management::WithConfiguration(HANDLE handle, const Edit &edit)
{
    Session session;

    {
        const Lock lock(mutex_);
        const NTSTATUS status = FindSessionLocked(handle, &session);

        if (!NT_SUCCESS(status))
        {
            return status;
        }
        if (transaction_ != nullptr && transaction_->owner == session.id)
        {
            if (transaction_->committing)
            {
                return STATUS_FWP_TXN_IN_PROGRESS;
            }
            return transaction_->read_only ? STATUS_FWP_INCOMPATIBLE_TXN : edit(session, transaction_->working);
        }
    }
    return Edited(session, edit);
}

NTSTATUS Management::Edited(const Session &session, const Edit &edit)
{
    Lock lock(mutex_);
    NTSTATUS status = BeginLocked(lock, session, false);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    status = edit(session, transaction_->working);
    if (!NT_SUCCESS(status))
    {
        EndTransactionLocked();
        return status;
    }
    return CommitLocked(lock);
}

Management::Change Management::DifferenceLocked() const
{
    const auto &before = committed_.filters;
    const auto &after = transaction_->working.filters;
    Change change;

    for (const auto &[id, filter] : after)
    {
        if (before.count(id) == 0)
        {
            change.added.push_back(filter);
            change.layers.set(filter->layer);
        }
    }
    for (const auto &[id, filter] : before)
    {
        if (after.count(id) == 0)
        {
            change.removed.push_back(filter);
            change.layers.set(filter->layer);
        }
    }
    return change;
}

// Objects

NTSTATUS Management::AddProvider(HANDLE handle, const FWPM_PROVIDER0 *provider)
{
    if (provider->displayData.name == nullptr)
    {
        return STATUS_FWP_NULL_DISPLAY_NAME;
    }
    return WithConfiguration(handle,
                             [&](const Session &session, Configuration &configuration)
                             {
                                 const auto made = std::make_shared<Provider>();

                                 made->key = IsZero(provider->providerKey) ? MakeKeyLocked() : provider->providerKey;
                                 made->owner = session.dynamic ? session.id : 0;
                                 return configuration.providers.emplace(made->key, made).second
                                            ? STATUS_SUCCESS
                                            : STATUS_FWP_ALREADY_EXISTS;
                             });
}

NTSTATUS Management::AddSubLayer(HANDLE handle, const FWPM_SUBLAYER0 *sub_layer)
{
    if (sub_layer->displayData.name == nullptr)
    {
        return STATUS_FWP_NULL_DISPLAY_NAME;
    }
    return WithConfiguration(handle,
                             [&](const Session &session, Configuration &configuration)
                             {
                                 const auto made = std::make_shared<SubLayer>();

                                 if (!FindProvider(configuration, sub_layer->providerKey, &made->provider))
                                 {
                                     return STATUS_FWP_PROVIDER_NOT_FOUND;
                                 }
                                 made->key = IsZero(sub_layer->subLayerKey) ? MakeKeyLocked() : sub_layer->subLayerKey;
                                 made->weight = sub_layer->weight;
                                 made->order = ++last_order_;
                                 made->owner = session.dynamic ? session.id : 0;
                                 return configuration.sub_layers.emplace(made->key, made).second
                                            ? STATUS_SUCCESS
                                            : STATUS_FWP_ALREADY_EXISTS;
                             });
}

NTSTATUS Management::AddCallout(HANDLE handle, const FWPM_CALLOUT0 *callout, UINT32 *id)
{
    if (callout->displayData.name == nullptr)
    {
        return STATUS_FWP_NULL_DISPLAY_NAME;
    }

    uint16_t layer = 0;

    if (FindLayer(callout->applicableLayer, &layer) == nullptr)
    {
        return STATUS_FWP_LAYER_NOT_FOUND;
    }
    return WithConfiguration(handle,
                             [&](const Session &session, Configuration &configuration)
                             {
                                 const auto made = std::make_shared<ManagedCallout>();

                                 if (!FindProvider(configuration, callout->providerKey, &made->provider))
                                 {
                                     return STATUS_FWP_PROVIDER_NOT_FOUND;
                                 }
                                 made->key = IsZero(callout->calloutKey) ? MakeKeyLocked() : callout->calloutKey;
                                 made->layer = layer;
                                 made->id = CalloutIdLocked(made->key);
                                 made->owner = session.dynamic ? session.id : 0;
                                 if (!configuration.callouts.emplace(made->key, made).second)
                                 {
                                     return STATUS_FWP_ALREADY_EXISTS;
                                 }
                                 if (id != nullptr)
                                 {
                                     *id = made->id;
                                 }
                                 return STATUS_SUCCESS;
                             });
}

NTSTATUS Management::AddFilter(HANDLE handle, const FWPM_FILTER0 *filter, UINT64 *id)
{
    if (filter->displayData.name == nullptr)
    {
        return STATUS_FWP_NULL_DISPLAY_NAME;
    }
    return WithConfiguration(handle,
                             [&](const Session &session, Configuration &configuration)
                             {
                                 const auto made = std::make_shared<Filter>();
                                 const NTSTATUS status = MakeFilterLocked(configuration, *filter, made.get());

                                 if (!NT_SUCCESS(status))
                                 {
                                     return status;
                                 }
                                 made->owner = session.dynamic ? session.id : 0;
                                 configuration.filters.emplace(made->runtime.filterId, made);
                                 if (id != nullptr)
                                 {
                                     *id = made->runtime.filterId;
                                 }
                                 return static_cast<NTSTATUS>(STATUS_SUCCESS);
                             });
}

NTSTATUS Management::MakeFilterLocked(const Configuration &configuration, const FWPM_FILTER0 &filter, Filter *made)
{
    if (FindLayer(filter.layerKey, &made->layer) == nullptr)
    {
        return STATUS_FWP_LAYER_NOT_FOUND;
    }
    if (filter.numFilterConditions != 0)
    {
        return STATUS_NOT_SUPPORTED;
    }
    if (!FindProvider(configuration, filter.providerKey, &made->provider))
    {
        return STATUS_FWP_PROVIDER_NOT_FOUND;
    }

    NTSTATUS status = KindOf(filter.action.type, &made->kind);

    if (NT_SUCCESS(status))
    {
        status = WeightOf(filter.weight, &made->weight);
    }
    if (!NT_SUCCESS(status))
    {
        return status;
    }

    const auto sub_layer = configuration.sub_layers.find(filter.subLayerKey);

    if (sub_layer == configuration.sub_layers.end())
    {
        return STATUS_FWP_SUBLAYER_NOT_FOUND;
    }
    if (IsCallout(made->kind))
    {
        const auto callout = configuration.callouts.find(filter.action.calloutKey);

        if (callout == configuration.callouts.end())
        {
            return STATUS_FWP_CALLOUT_NOT_FOUND;
        }
        if (callout->second->layer != made->layer)
        {
            return STATUS_FWP_INCOMPATIBLE_LAYER;
        }
        made->callout = callout->first;
        made->runtime.action.calloutId = callout->second->id;
    }

    made->key = IsZero(filter.filterKey) ? MakeKeyLocked() : filter.filterKey;
    for (const auto &[other_id, other] : configuration.filters)
    {
        if (std::memcmp(&other->key, &made->key, sizeof(GUID)) == 0)
        {
            return STATUS_FWP_ALREADY_EXISTS;
        }
    }

    made->sub_layer = filter.subLayerKey;
    made->runtime.filterId = ++last_filter_;
    made->runtime.weight.type = FWP_UINT64;
    made->runtime.weight.uint64 = &made->weight;
    made->runtime.subLayerWeight = sub_layer->second->weight;
    made->runtime.action.type = filter.action.type;
    if ((filter.flags & FWPM_FILTER_FLAG_HAS_PROVIDER_CONTEXT) == 0)
    {
        made->runtime.context = filter.rawContext;
    }
    if ((filter.flags & FWPM_FILTER_FLAG_CLEAR_ACTION_RIGHT) != 0)
    {
        made->runtime.flags |= FWPS_FILTER_FLAG_CLEAR_ACTION_RIGHT;
    }
    if ((filter.flags & FWPM_FILTER_FLAG_PERMIT_IF_CALLOUT_UNREGISTERED) != 0)
    {
        made->runtime.flags |= FWPS_FILTER_FLAG_PERMIT_IF_CALLOUT_UNREGISTERED;
    }
    return STATUS_SUCCESS;
}

NTSTATUS Management::DeleteFilter(HANDLE handle, UINT64 id)
{
    return WithConfiguration(handle,
                             [&](const Session &session, Configuration &configuration)
                             {
                                 const auto filter = configuration.filters.find(id);

                                 if (filter == configuration.filters.end())
                                 {
                                     return STATUS_FWP_FILTER_NOT_FOUND;
                                 }
                                 if (filter->second->owner != 0 && filter->second->owner != session.id)
                                 {
                                     return STATUS_FWP_WRONG_SESSION;
                                 }
                                 configuration.filters.erase(filter);
                                 return STATUS_SUCCESS;
                             });
}

uint64_t Management::AddForeignFilter(uint16_t layer, uint16_t weight, ForeignAction action)
{
    uint64_t id = 0;

    Edited(ForeignSession(),
           [&](const Session &, Configuration &configuration)
           {
               const auto sub_layer = std::make_shared<SubLayer>();
               const auto filter = std::make_shared<Filter>();

               sub_layer->key = MakeKeyLocked();
               sub_layer->weight = weight;
               sub_layer->order = ++last_order_;
               sub_layer->owner = kForeignSession;
               configuration.sub_layers.emplace(sub_layer->key, sub_layer);

               filter->key = MakeKeyLocked();
               filter->sub_layer = sub_layer->key;
               filter->layer = layer;
               filter->owner = kForeignSession;
               filter->runtime.filterId = ++last_filter_;
               filter->runtime.subLayerWeight = weight;
               switch (action)
               {
               case ForeignAction::kContinue:
                   filter->kind = FilterKind::kContinue;
                   break;
               case ForeignAction::kHardPermit:
                   filter->runtime.flags = FWPS_FILTER_FLAG_CLEAR_ACTION_RIGHT;
                   filter->kind = FilterKind::kPermit;
                   break;
               case ForeignAction::kSoftPermit:
                   filter->kind = FilterKind::kPermit;
                   break;
               case ForeignAction::kHardBlock:
                   filter->runtime.flags = FWPS_FILTER_FLAG_CLEAR_ACTION_RIGHT;
                   filter->kind = FilterKind::kBlock;
                   break;
               case ForeignAction::kSoftBlock:
                   filter->kind = FilterKind::kBlock;
                   break;
               case ForeignAction::kVeto:
                   filter->kind = FilterKind::kVeto;
                   break;
               }
               id = filter->runtime.filterId;
               configuration.filters.emplace(id, filter);
               return static_cast<NTSTATUS>(STATUS_SUCCESS);
           });
    return id;
}

void Management::RemoveForeignFilter(uint64_t id)
{
    Edited(ForeignSession(),
           [&](const Session &, Configuration &configuration)
           {
               const auto filter = configuration.filters.find(id);

               if (filter == configuration.filters.end())
               {
                   return STATUS_FWP_FILTER_NOT_FOUND;
               }
               configuration.sub_layers.erase(filter->second->sub_layer);
               configuration.filters.erase(filter);
               return STATUS_SUCCESS;
           });
}

// Runtime callouts

NTSTATUS Management::RegisterCallout(const FWPS_CALLOUT2 *callout, UINT32 *id)
{
    Lock lock(mutex_);
    const UINT32 made_id = CalloutIdLocked(callout->calloutKey);

    if (runtime_callouts_.count(made_id) != 0)
    {
        return STATUS_FWP_ALREADY_EXISTS;
    }
    runtime_callouts_[made_id] = {*callout, made_id};
    if (id != nullptr)
    {
        *id = made_id;
    }

    std::vector<std::shared_ptr<Filter>> waiting;

    for (const auto &[filter_id, filter] : committed_.filters)
    {
        if (IsCallout(filter->kind) && filter->runtime.action.calloutId == made_id)
        {
            waiting.push_back(filter);
        }
    }
    if (waiting.empty())
    {
        return STATUS_SUCCESS;
    }

    const RuntimeCallouts callouts = runtime_callouts_;

    lock.unlock();
    const NTSTATUS status = NotifyAdded(waiting, callouts);
    lock.lock();

    if (!NT_SUCCESS(status))
    {
        runtime_callouts_.erase(made_id);
        return status;
    }
    for (const std::shared_ptr<Filter> &filter : waiting)
    {
        PublishLocked(filter->layer);
    }
    return STATUS_SUCCESS;
}

NTSTATUS Management::TakeUnregisterFault(UINT32 id)
{
    constexpr NTSTATUS kFaults[] = {STATUS_DEVICE_BUSY, STATUS_FWP_IN_USE, STATUS_FWP_TIMEOUT, STATUS_UNSUCCESSFUL};
    const Lock lock(mutex_);
    const auto callout = runtime_callouts_.find(id);

    if (callout == runtime_callouts_.end() || std::exchange(callout->second.had_fault, true))
    {
        return STATUS_SUCCESS;
    }
    return kFaults[unregister_faults_++ % std::size(kFaults)];
}

NTSTATUS Management::UnregisterCallout(UINT32 id)
{
    Lock lock(mutex_);

    if (transaction_ != nullptr && transaction_->committing && transaction_->committer == std::this_thread::get_id())
    {
        Bugcheck("WFP_REENTERED", "FwpsCalloutUnregisterById0 was called inside notifyFn");
    }
    WaitLocked(lock, kWaitForever, [&] { return transaction_ == nullptr || !transaction_->committing; });

    const auto found = runtime_callouts_.find(id);

    if (found == runtime_callouts_.end())
    {
        return STATUS_FWP_CALLOUT_NOT_FOUND;
    }

    RuntimeCallout &callout = found->second;

    if (callout.unregistering)
    {
        return STATUS_FWP_IN_USE;
    }
    if (callout.failures < unregister_failures_.size())
    {
        return unregister_failures_[callout.failures++];
    }
    callout.unregistering = true;

    const LayerSet layers = LayersOfLocked(id);

    for (uint16_t layer = 0; layer < kLayerIds; ++layer)
    {
        if (layers.test(layer))
        {
            PublishLocked(layer);
        }
    }
    WaitForReadersLocked(lock);
    runtime_callouts_.erase(id);
    ReclaimLocked();
    return STATUS_SUCCESS;
}

void Management::SetUnregisterFailures(std::vector<NTSTATUS> statuses)
{
    const Lock lock(mutex_);

    unregister_failures_ = std::move(statuses);
    for (auto &[id, callout] : runtime_callouts_)
    {
        callout.failures = 0;
    }
}

// Returns once no classify can be reading a snapshot that was replaced before this call.
void Management::WaitForReadersLocked(Lock &lock)
{
    const uint64_t ticket = readers_.TakeTicket();

    while (!readers_.Passed(ticket))
    {
        if (!readers_.TryAdvance())
        {
            lock.unlock();
            std::this_thread::yield();
            lock.lock();
        }
    }
}

LayerSet Management::LayersOfLocked(UINT32 callout) const
{
    LayerSet layers;

    for (const auto &[id, filter] : committed_.filters)
    {
        if (IsCallout(filter->kind) && filter->runtime.action.calloutId == callout)
        {
            layers.set(filter->layer);
        }
    }
    return layers;
}

UINT32 Management::CalloutIdLocked(const GUID &key)
{
    const auto [entry, made] = callout_ids_.emplace(key, static_cast<UINT32>(callout_ids_.size() + 1));
    return entry->second;
}

GUID Management::MakeKeyLocked()
{
    GUID key{};
    const uint64_t number = ++last_key_;

    key.Data1 = 0x6e766b79;
    std::memcpy(key.Data4, &number, sizeof(number));
    return key;
}

// Snapshots

std::unique_ptr<LayerSnapshot> Management::MakeSnapshotLocked(uint16_t layer) const
{
    auto snapshot = std::make_unique<LayerSnapshot>();
    auto &filters = snapshot->filters;
    const auto sub_layer_of = [&](const std::shared_ptr<const Filter> &filter) -> const SubLayer &
    { return *committed_.sub_layers.at(filter->sub_layer); };

    for (const auto &[id, filter] : committed_.filters)
    {
        if (filter->layer == layer)
        {
            filters.push_back(filter);
        }
    }
    if (filters.empty())
    {
        return nullptr;
    }
    std::sort(filters.begin(), filters.end(),
              [&](const auto &a, const auto &b)
              {
                  const SubLayer &sub_layer_a = sub_layer_of(a);
                  const SubLayer &sub_layer_b = sub_layer_of(b);

                  if (sub_layer_a.weight != sub_layer_b.weight)
                  {
                      return sub_layer_a.weight > sub_layer_b.weight;
                  }
                  if (sub_layer_a.order != sub_layer_b.order)
                  {
                      return sub_layer_a.order < sub_layer_b.order;
                  }
                  if (a->weight != b->weight)
                  {
                      return a->weight > b->weight;
                  }
                  return a->runtime.filterId < b->runtime.filterId;
              });

    snapshot->layer = &LayerById(layer);
    snapshot->entries.resize(filters.size());
    for (size_t i = filters.size(); i-- > 0;)
    {
        SnapshotEntry &entry = snapshot->entries[i];
        const Filter &filter = *filters[i];
        const bool last = i + 1 == filters.size() || &sub_layer_of(filters[i]) != &sub_layer_of(filters[i + 1]);
        const FWPS_CALLOUT2 *functions = FunctionsOf(runtime_callouts_, filter);

        entry.filter = &filter;
        entry.classify = functions == nullptr ? nullptr : functions->classifyFn;
        entry.oldest_connection = SeesOldConnections(layer, functions) ? 0 : filter.epoch;
        entry.sub_layer_end = last ? static_cast<uint32_t>(i + 1) : snapshot->entries[i + 1].sub_layer_end;
        entry.kind = filter.kind;
        entry.clears_right = (filter.runtime.flags & FWPS_FILTER_FLAG_CLEAR_ACTION_RIGHT) != 0;
    }
    return snapshot;
}

void Management::PublishLocked(uint16_t layer)
{
    const LayerSnapshot *old = published_[layer].exchange(MakeSnapshotLocked(layer).release());

    if (old != nullptr)
    {
        retired_.push_back({std::unique_ptr<const LayerSnapshot>(old), readers_.TakeTicket()});
    }
}

// A commit is not one instant: classifies see each layer's new filters from its own moment on.
void Management::PublishLayersLocked(Lock &lock, const LayerSet &layers)
{
    const PublishWatcher between = between_layers_;
    std::vector<uint16_t> order;

    for (uint16_t layer = 0; layer < kLayerIds; ++layer)
    {
        if (layers.test(layer))
        {
            order.push_back(layer);
        }
    }
    if (publish_order_ == PublishOrder::kAleLayersFirst)
    {
        std::reverse(order.begin(), order.end());
    }
    for (size_t next = 0; next < order.size(); ++next)
    {
        if (between && next != 0)
        {
            lock.unlock();
            between(order[next - 1], order[next]);
            lock.lock();
        }
        PublishLocked(order[next]);
    }
}

void Management::SetPublishing(PublishOrder order, PublishWatcher between)
{
    const Lock lock(mutex_);

    publish_order_ = order;
    between_layers_ = std::move(between);
}

void Management::ReclaimLocked()
{
    readers_.TryAdvance();
    readers_.TryAdvance();
    retired_.erase(std::remove_if(retired_.begin(), retired_.end(),
                                  [&](const Retired &retired) { return readers_.Passed(retired.ticket); }),
                   retired_.end());
}

uint64_t Management::CountFiltersThatBlockWithoutCallout() const
{
    const Lock lock(mutex_);
    const auto blocks = [](const auto &entry)
    {
        return entry.second->kind == FilterKind::kTerminatingCallout &&
               (entry.second->runtime.flags & FWPS_FILTER_FLAG_PERMIT_IF_CALLOUT_UNREGISTERED) == 0;
    };

    return static_cast<uint64_t>(std::count_if(committed_.filters.begin(), committed_.filters.end(), blocks));
}

OffloadState Management::offloads() const
{
    const Lock lock(mutex_);

    return OffloadsOf(committed_, runtime_callouts_, machine_.options().windows_build);
}

uint64_t Management::CountObjectsWithoutProvider() const
{
    const Lock lock(mutex_);

    return CountWithoutProvider(committed_.sub_layers) + CountWithoutProvider(committed_.callouts) +
           CountWithoutProvider(committed_.filters);
}

void Management::CheckUnloaded() const
{
    const Lock lock(mutex_);

    if (transaction_ != nullptr)
    {
        Bugcheck("WFP_TRANSACTION_OPEN", "a transaction is neither committed nor aborted");
    }
    if (!sessions_.empty())
    {
        Bugcheck("WFP_SESSION_LEAKED", "%zu engine sessions are still open", sessions_.size());
    }
    for (const auto &[id, filter] : committed_.filters)
    {
        if (filter->owner != kForeignSession)
        {
            Bugcheck("WFP_FILTER_LEAKED", "filter %llu at layer %s still exists", static_cast<unsigned long long>(id),
                     LayerById(filter->layer).name);
        }
    }
    if (!runtime_callouts_.empty())
    {
        Bugcheck("WFP_CALLOUT_LEAKED", "%zu callouts are still registered", runtime_callouts_.size());
    }
}

} // namespace sim::wfp
