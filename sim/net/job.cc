#include "net/job.h"

namespace sim::net {
namespace {

constexpr size_t kBytesKept = 16 * 1024;

} // namespace

void Job::Reset()
{
    std::vector<uint8_t> kept = std::move(bytes);

    *this = Job();
    if (kept.capacity() <= kBytesKept)
    {
        kept.clear();
        bytes = std::move(kept);
    }
}

} // namespace sim::net
