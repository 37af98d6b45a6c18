#include "nt/request.h"

#include <cstring>
#include <new>

namespace sim::nt
{

RequestPool::RequestPool(bool verifier) : resting_(verifier ? kRestingRequests : 0) {}

Request *RequestPool::Allocate()
{
    Request *request = nullptr;

    {
        std::lock_guard<std::mutex> lock(mutex_);

        if (free_.size() > resting_)
        {
            // The one freed first while requests rest; otherwise the one that is still in the cache.
            request = resting_ != 0 ? free_.front() : free_.back();
            resting_ != 0 ? free_.pop_front() : free_.pop_back();
        }
        else
        {
            all_.push_back(std::make_unique<Request>());
            request = all_.back().get();
        }
    }
    std::memset(static_cast<void *>(static_cast<IRP *>(request)), 0, sizeof(IRP));
    std::memset(&request->stack, 0, sizeof(request->stack));
    request->references.store(2, std::memory_order_relaxed);
    request->state.store(Request::State::kActive, std::memory_order_release);
    return request;
}

void RequestPool::Release(Request *request)
{
    if (request->references.fetch_sub(1, std::memory_order_acq_rel) != 1)
    {
        return;
    }
    request->state.store(Request::State::kFree, std::memory_order_release);

    std::lock_guard<std::mutex> lock(mutex_);

    free_.push_back(request);
}

const char *MajorFunctionName(UCHAR major)
{
    switch (major)
    {
    case IRP_MJ_CREATE:
        return "IRP_MJ_CREATE";
    case IRP_MJ_CLOSE:
        return "IRP_MJ_CLOSE";
    case IRP_MJ_READ:
        return "IRP_MJ_READ";
    case IRP_MJ_WRITE:
        return "IRP_MJ_WRITE";
    case IRP_MJ_DEVICE_CONTROL:
        return "IRP_MJ_DEVICE_CONTROL";
    case IRP_MJ_CLEANUP:
        return "IRP_MJ_CLEANUP";
    default:
        return "another major function";
    }
}

} // namespace sim::nt
