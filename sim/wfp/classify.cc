#include "classify_copy.h"
#include "decision.h"
#include "engine_state.h"
#include "handles.h"
#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/driver_call.h"
#include "nt/irql.h"
#include "nt/scheduler.h"
#include "origin_tracker.h"

#include <optional>

namespace sim::wfp
{
namespace
{

// The arguments of the callouts of one classify.
struct Arguments
{
    FWPS_INCOMING_VALUES0 *values;
    FWPS_INCOMING_METADATA_VALUES0 *metadata;
    void *layer_data;
};

// Returns nullptr at other layers than STREAM.
FWPS_STREAM_CALLOUT_IO_PACKET0 *StreamPacketOf(const Layer &layer, void *layer_data)
{
    return layer.kind == LayerKind::kStream ? static_cast<FWPS_STREAM_CALLOUT_IO_PACKET0 *>(layer_data) : nullptr;
}

const NET_BUFFER_LIST *ListsOf(const Layer &layer, void *layer_data)
{
    if (layer_data == nullptr)
    {
        return nullptr;
    }
    if (layer.kind != LayerKind::kStream)
    {
        return static_cast<const NET_BUFFER_LIST *>(layer_data);
    }
    const FWPS_STREAM_DATA0 *data = StreamPacketOf(layer, layer_data)->streamData;
    return data == nullptr ? nullptr : data->netBufferListChain;
}

// Adds the completion handle to the metadata until the classify ends.
class CompletionHandle
{
  public:
    CompletionHandle(FWPS_INCOMING_METADATA_VALUES0 *metadata, ClassifyFrame *frame, bool offered)
        : metadata_(offered ? metadata : nullptr)
    {
        if (metadata_ != nullptr)
        {
            metadata_->completionHandle = frame;
            metadata_->currentMetadataValues |= FWPS_METADATA_FIELD_COMPLETION_HANDLE;
        }
    }

    ~CompletionHandle()
    {
        if (metadata_ != nullptr)
        {
            metadata_->completionHandle = nullptr;
            metadata_->currentMetadataValues &= ~static_cast<UINT32>(FWPS_METADATA_FIELD_COMPLETION_HANDLE);
        }
    }

    CompletionHandle(const CompletionHandle &) = delete;
    CompletionHandle &operator=(const CompletionHandle &) = delete;

  private:
    FWPS_INCOMING_METADATA_VALUES0 *metadata_;
};

[[noreturn]] void BugcheckAction(const char *rule, const Layer &layer, FWP_ACTION_TYPE action, const char *why)
{
    Bugcheck(rule, "a callout at %s returned action 0x%x %s", layer.name, action, why);
}

void CheckPended(const ClassifyFrame &frame, bool pended_before, const FWPS_CLASSIFY_OUT0 &out)
{
    if (frame.pended == nullptr || pended_before)
    {
        return;
    }
    if (out.actionType != FWP_ACTION_BLOCK || (out.flags & FWPS_CLASSIFY_OUT_FLAG_ABSORB) == 0)
    {
        BugcheckAction("WFP_PENDED_NOT_ABSORBED", frame.layer, out.actionType,
                       "after pending: it must block and absorb");
    }
}

void CheckWithoutRight(const ClassifyFrame &frame, FWP_ACTION_TYPE action_before, const FWPS_CLASSIFY_OUT0 &out)
{
    if ((out.rights & FWPS_RIGHT_ACTION_WRITE) != 0)
    {
        Bugcheck("WFP_RIGHT_TAKEN", "a callout at %s set FWPS_RIGHT_ACTION_WRITE, which it did not have",
                 frame.layer.name);
    }
    if (out.actionType != action_before && !(action_before == FWP_ACTION_PERMIT && out.actionType == FWP_ACTION_BLOCK))
    {
        BugcheckAction("WFP_ACTION_WITHOUT_RIGHT", frame.layer, out.actionType, "without the right to write it");
    }
}

void CheckInspection(const ClassifyFrame &frame, bool had_right, FWP_ACTION_TYPE action_before,
                     const FWPS_CLASSIFY_OUT0 &out)
{
    if (out.actionType != action_before && out.actionType != FWP_ACTION_CONTINUE)
    {
        BugcheckAction("WFP_INSPECTION_DECIDED", frame.layer, out.actionType, "from an inspection filter");
    }
    if (had_right && out.actionType != FWP_ACTION_CONTINUE)
    {
        BugcheckAction("WFP_INSPECTION_NO_ACTION", frame.layer, out.actionType,
                       "from an inspection filter, and not FWP_ACTION_CONTINUE");
    }
}

// Calls the callout, checks what it did and merges its decision. Returns whether it decided.
bool ApplyCallout(const SnapshotEntry &entry, ClassifyFrame &frame, const Arguments &arguments, Decision *decision)
{
    const bool had_right = decision->open();
    const bool pended_before = frame.pended != nullptr;
    const FWP_ACTION_TYPE action_before = decision->action;
    FWPS_STREAM_CALLOUT_IO_PACKET0 *stream = StreamPacketOf(frame.layer, arguments.layer_data);
    FWPS_CLASSIFY_OUT0 out;

    out.actionType = action_before;
    out.outContext = 0;
    out.filterId = entry.filter->runtime.filterId;
    out.rights = decision->rights;
    out.flags = 0;
    out.reserved = 0;
    if (stream != nullptr)
    {
        stream->streamAction = FWPS_STREAM_ACTION_TYPE_MAX;
    }
    {
        const nt::DriverCall call("FWPS_CALLOUT_CLASSIFY_FN2");
        entry.classify(arguments.values, arguments.metadata, arguments.layer_data, nullptr, &entry.filter->runtime, 0,
                       &out);
    }
    CheckPended(frame, pended_before, out);
    if (stream != nullptr && stream->streamAction != FWPS_STREAM_ACTION_NONE)
    {
        Bugcheck("WFP_STREAM_ACTION", "a callout at %s set stream action %d: this machine carries out none",
                 frame.layer.name, stream->streamAction);
    }

    const bool absorbs = (out.flags & FWPS_CLASSIFY_OUT_FLAG_ABSORB) != 0;

    if (entry.kind == FilterKind::kInspectionCallout)
    {
        CheckInspection(frame, had_right, action_before, out);
        return false;
    }
    if (!had_right)
    {
        CheckWithoutRight(frame, action_before, out);
        if (out.actionType == action_before)
        {
            return false;
        }
        decision->Veto(absorbs);
        return true;
    }
    switch (out.actionType)
    {
    case FWP_ACTION_PERMIT:
    case FWP_ACTION_BLOCK:
        decision->Take(out.actionType, (out.rights & FWPS_RIGHT_ACTION_WRITE) == 0, absorbs);
        return true;
    case FWP_ACTION_CONTINUE:
    case FWP_ACTION_NONE:
    case FWP_ACTION_NONE_NO_MATCH:
        return false;
    default:
        BugcheckAction("WFP_NO_ACTION", frame.layer, out.actionType, "from a terminating filter");
    }
}

bool ApplyUnregistered(const SnapshotEntry &entry, Decision *decision)
{
    if (entry.kind == FilterKind::kInspectionCallout)
    {
        return false;
    }
    const bool permits = (entry.filter->runtime.flags & FWPS_FILTER_FLAG_PERMIT_IF_CALLOUT_UNREGISTERED) != 0;
    decision->Take(permits ? FWP_ACTION_PERMIT : FWP_ACTION_BLOCK, false, false);
    return true;
}

// Returns whether the filter decided for its sublayer.
bool Apply(const SnapshotEntry &entry, ClassifyFrame &frame, const Arguments &arguments, Decision *decision)
{
    switch (entry.kind)
    {
    case FilterKind::kTerminatingCallout:
    case FilterKind::kInspectionCallout:
        return entry.classify == nullptr ? ApplyUnregistered(entry, decision)
                                         : ApplyCallout(entry, frame, arguments, decision);
    case FilterKind::kPermit:
        decision->Take(FWP_ACTION_PERMIT, entry.clears_right, false);
        return true;
    case FilterKind::kBlock:
        decision->Take(FWP_ACTION_BLOCK, entry.clears_right, false);
        return true;
    case FilterKind::kVeto:
        decision->Veto(false);
        return true;
    case FilterKind::kContinue:
        return false;
    }
    return false;
}

void CheckRetreat(const Layer &layer, const NET_BUFFER_LIST *lists, int64_t before)
{
    const int64_t after = ndis::RetreatBalance(lists);

    if (after != before)
    {
        Bugcheck("WFP_RETREAT_NOT_UNDONE", "callouts at %s left the data start %lld bytes away from where it was",
                 layer.name, static_cast<long long>(before - after));
    }
}

} // namespace

ClassifyResult EngineState::Classify(const ClassifyInput &input)
{
    ClassifyResult result;

    if (input.layer >= kLayerIds || management.snapshot(input.layer) == nullptr)
    {
        return result;
    }
    nt::RequireIrqlAtMost(DISPATCH_LEVEL, "classify");

    const ReadSection::Guard guard(management.readers());
    const LayerSnapshot *snapshot = management.snapshot(input.layer);

    if (snapshot == nullptr)
    {
        return result;
    }

    const Layer &layer = *snapshot->layer;
    const NET_BUFFER_LIST *lists = ListsOf(layer, input.layer_data);
    const int64_t retreat_before = ndis::RetreatBalance(lists);
    ClassifyFrame frame(*this, input, layer, nt::CurrentIrql());
    Decision decision;

    {
        const CompletionHandle handle(input.metadata, &frame, layer.kind == LayerKind::kAuthorization);
        std::optional<ClassifyCopy> copy;
        Arguments arguments = {input.values, input.metadata, input.layer_data};

        if (verifier_)
        {
            classifies.fetch_add(1, std::memory_order_relaxed);
            copy.emplace(*input.values, *input.metadata);
            arguments.values = copy->values();
            arguments.metadata = copy->metadata();
        }
        for (size_t next = 0; next < snapshot->entries.size();)
        {
            const SnapshotEntry &entry = snapshot->entries[next];
            const bool applies = input.established >= entry.oldest_connection;
            next = applies && Apply(entry, frame, arguments, &decision) ? entry.sub_layer_end : next + 1;
        }
    }
    CheckRetreat(layer, lists, retreat_before);

    result.action = decision.action == FWP_ACTION_BLOCK ? ClassifyResult::kBlock : ClassifyResult::kPermit;
    result.absorbed = decision.absorb;
    result.has_copies = OriginTracker::EndClassify(frame);
    result.referenced = NetBufferLists::IsReferenced(lists);
    if (frame.pended != nullptr)
    {
        result.action = ClassifyResult::kBlock;
        result.absorbed = true;
        result.pended = true;
        if (pended.LeaveClassify(*frame.pended))
        {
            // The list of the completion may be gone when this work runs, so nullptr is passed.
            machine.scheduler().Queue(DISPATCH_LEVEL, [operation = frame.pended] { operation->on_complete(nullptr); });
        }
    }
    return result;
}

NTSTATUS EngineState::Pend(HANDLE completion_handle, HANDLE *context)
{
    ClassifyFrame *frame = ClassifyFrame::Find(*this);

    if (frame == nullptr || completion_handle != frame)
    {
        Bugcheck("WFP_INVALID_HANDLE", "FwpsPendOperation0: %p is not the completion handle of the running classify",
                 completion_handle);
    }

    const NTSTATUS failure = pend_failure.load();

    if (!NT_SUCCESS(failure))
    {
        return failure;
    }
    if (!frame->input.can_pend || frame->pended != nullptr)
    {
        return STATUS_FWP_CANNOT_PEND;
    }
    frame->pended = pended.Add(frame->input.on_complete);
    *context = MakeHandle(HandleKind::kOperation, frame->pended->id);
    return STATUS_SUCCESS;
}

} // namespace sim::wfp
