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

} // namespace sim::net
