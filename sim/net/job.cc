#include "net/job.h"

namespace sim::net
{
namespace
{

constexpr size_t kBytesKept = 16 * 1024;

} // namespace

void Job::Reset()
{
    static_cast<JobState &>(*this) = JobState();
    packet.reset();
    done = nullptr;
    bytes.clear();
    if (bytes.capacity() > kBytesKept)
    {
        bytes.shrink_to_fit();
    }
}

void JobQueue::Append(Job *job)
{
    job->next = nullptr;
    (first_ == nullptr ? first_ : last_->next) = job;
    last_ = job;
}

Job *JobQueue::Pop()
{
    Job *job = first_;

    if (job != nullptr)
    {
        first_ = job->next;
        last_ = first_ == nullptr ? nullptr : last_;
    }
    return job;
}

void JobQueue::Take(JobQueue *other)
{
    if (other->empty())
    {
        return;
    }
    (first_ == nullptr ? first_ : last_->next) = other->first_;
    last_ = other->last_;
    *other = JobQueue();
}

} // namespace sim::net
