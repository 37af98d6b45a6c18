// The life of a flow, and the order of its work.

#include "net/flow.h"

#include "net/core.h"

#include <mutex>
#include <utility>

namespace sim::net
{

void Flow::JobQueue::Append(Job *job)
{
    job->next = nullptr;
    (first == nullptr ? first : last->next) = job;
    last = job;
}

Job *Flow::JobQueue::Pop()
{
    Job *job = first;

    if (job != nullptr)
    {
        first = job->next;
        last = first == nullptr ? nullptr : last;
    }
    return job;
}

void Flow::JobQueue::Take(JobQueue *other)
{
    if (other->empty())
    {
        return;
    }
    (first == nullptr ? first : last->next) = other->first;
    last = other->last;
    *other = JobQueue();
}

Flow::~Flow()
{
    RetireHold();
}

void Flow::Release()
{
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
    {
        Clear();
        core_->flows().Recycle(this);
    }
}

void Flow::Clear()
{
    identity_ = FlowIdentity();
    socket_.Reset();
    socket_handle_.store(0, std::memory_order_relaxed);
    conversation_.reset();
    raw_ = false;
    accepted_ = false;
    wait_ = Wait();
    redirection_ = Redirection();
    authorization_ = Authorization::kNone;
    refusal_ = OutcomeKind::kBlocked;
    epoch_ = 0;
    waiting_ = false;
    ever_granted_ = false;
    established_ = false;
    failed_ = false;
    expired_ = false;
    closing_ = false;
    closed_ = false;
}

void Flow::Submit(Job *job)
{
    {
        const std::lock_guard<SpinLock> lock(lock_);

        incoming_.Append(job);
        if (working_)
        {
            return;
        }
        working_ = true;
    }
    Work();
}

void Flow::Post(FlowEvent event)
{
    event.hold->AddReference();
    {
        const std::lock_guard<SpinLock> lock(lock_);

        events_.push_back(std::move(event));
        if (working_)
        {
            return;
        }
        working_ = true;
    }
    Work();
}

void Flow::Close()
{
    Job *job = core_->NewJob();

    job->kind = JobKind::kClose;
    {
        const std::lock_guard<SpinLock> lock(lock_);

        abort_ = true;
        incoming_.Append(job);
        if (working_)
        {
            return;
        }
        working_ = true;
    }
    Work();
}

void Flow::CloseWhenDone()
{
    Job *job = core_->NewJob();

    job->kind = JobKind::kFinish;
    Submit(job);
}

void Flow::Abandon()
{
    JobQueue left;
    std::vector<FlowEvent> events;

    {
        const std::lock_guard<SpinLock> lock(lock_);

        working_ = true; // for good: nothing is worked on any more
        left.Take(&local_);
        left.Take(&until_established_);
        left.Take(&incoming_);
        events.swap(events_);
    }
    while (Job *job = left.Pop())
    {
        core_->Recycle(job);
    }
    if (current_ != nullptr)
    {
        core_->Recycle(std::exchange(current_, nullptr));
    }
    for (const FlowEvent &event : events)
    {
        event.hold->ReleaseReference();
    }
    RetireHold();
    StopAwaitingPeer();
    socket_.Forget();
    conversation_.reset();
}

void Flow::Work()
{
    const FlowRef keep = (AddReference(), FlowRef(this));
    std::vector<FlowEvent> events;
    bool abort = false;

    while (NextWork(&events, &abort))
    {
        for (FlowEvent &event : events)
        {
            Handle(&event);
            event.hold->ReleaseReference();
        }
        events.clear();
        if (std::exchange(abort, false))
        {
            Abort();
        }
        if (waiting_)
        {
            continue;
        }
        if (current_ == nullptr)
        {
            current_ = local_.Pop();
        }

        Job *job = current_;

        if (job != nullptr && Execute(*job) && current_ == job)
        {
            current_ = nullptr;
            core_->Recycle(job);
        }
    }
}

bool Flow::NextWork(std::vector<FlowEvent> *events, bool *abort)
{
    const std::lock_guard<SpinLock> lock(lock_);

    if (!events_.empty() || abort_)
    {
        events->swap(events_);
        *abort = std::exchange(abort_, false);
        return true;
    }
    if (!waiting_)
    {
        if (current_ == nullptr && local_.empty())
        {
            local_.Take(&incoming_);
        }
        if (current_ != nullptr || !local_.empty())
        {
            return true;
        }
    }
    working_ = false;
    return false;
}

void Flow::Handle(FlowEvent *event)
{
    if (event->hold == peer_hold_)
    {
        OnPeerTimeout();
        return;
    }
    if (!waiting_ || event->hold != hold_)
    {
        if (event->packet != nullptr)
        {
            core_->InjectLoose(event->injection, std::move(event->packet));
        }
        return;
    }

    Job &job = *current_;

    switch (event->kind)
    {
    case FlowEvent::kCompleted:
        OnCompleted(job);
        break;
    case FlowEvent::kInjected:
        OnInjected(job, event);
        break;
    case FlowEvent::kDropped:
        OnDropped(job);
        break;
    case FlowEvent::kTimeout:
        OnTimeout(job);
        break;
    }
}

bool Flow::Execute(Job &job)
{
    if (job.stage == Stage::kNone && !Begin(job))
    {
        return true;
    }
    do
    {
        if (!Advance(job))
        {
            return false;
        }
    } while (AfterTrip(job));
    return true;
}

bool Flow::Begin(Job &job)
{
    const bool ends = job.kind == JobKind::kClose || job.kind == JobKind::kPeerFinished || job.kind == JobKind::kFinish;

    if (closed_ && !ends)
    {
        if (job.kind == JobKind::kPacket && conversation_ != nullptr && !job.stray)
        {
            conversation_->Ended(*this, {job.direction, OutcomeKind::kBlocked, false});
        }
        Report(job, OutcomeKind::kBlocked);
        return false;
    }
    switch (job.kind)
    {
    case JobKind::kAuthorize:
        job.stage = Stage::kAuthorize;
        return true;
    case JobKind::kControl:
        return BeginControl(job);
    case JobKind::kBytes:
        return BeginBytes(job);
    case JobKind::kMessage:
        StartTrip(job, MakeMessage(job));
        return true;
    case JobKind::kPacket:
        StartTrip(job, std::move(job.packet));
        return true;
    case JobKind::kClose:
        BeginClose();
        return false;
    case JobKind::kPeerFinished:
        if (closing_ || accepted_)
        {
            Finish();
        }
        return false;
    case JobKind::kFinish:
        Finish();
        return false;
    }
    return false;
}

// Whether the job goes on with another packet.
bool Flow::AfterTrip(Job &job)
{
    switch (job.kind)
    {
    case JobKind::kControl:
        ControlDone(job);
        break;
    case JobKind::kBytes:
        if (SegmentDone(job))
        {
            return true;
        }
        break;
    case JobKind::kPacket:
        PacketDone(job);
        break;
    default:
        break;
    }
    Report(job, job.result);
    return false;
}

void Flow::Report(Job &job, OutcomeKind kind)
{
    if (job.done != nullptr)
    {
        const OutcomeCallback done = std::move(job.done);

        job.done = nullptr;
        done({kind, kind == OutcomeKind::kRedirected ? job.redirected_to : Endpoint()});
    }
}

void Flow::Finish()
{
    if (closed_)
    {
        return;
    }
    closed_ = true;
    StopAwaitingPeer();
    if (conversation_ != nullptr)
    {
        conversation_->Closing(*this);
    }
    if (identity_.protocol == kProtocolTcp && ever_granted_ && identity_.socket != nullptr)
    {
        IndicateClosure(core_->engine(), identity_);
    }
    core_->flows().Unindex(this);
    if (IsPeerHere() && identity_.protocol == kProtocolTcp && conversation_ == nullptr)
    {
        TellPeer();
    }
    identity_.socket = nullptr;
    if (socket_ && !accepted_)
    {
        core_->RemoveOwner(socket_.get());
    }
    socket_.Reset();
    local_.Take(&until_established_); // they are told that the flow is closed
    if (std::exchange(opened_, false))
    {
        Release();
    }
}

} // namespace sim::net
