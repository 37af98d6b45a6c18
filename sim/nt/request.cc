#include "nt/request.h"

#include <cstring>

#include "nt/bugcheck.h"
#include "nt/freed_pattern.h"
#include "nt/sanitizer.h"

namespace sim::nt
{

namespace
{

// Calls `function` for each part of a request that the driver may touch.
template <typename Function> void ForEachDriverPart(Request *request, Function function)
{
    function(static_cast<void *>(static_cast<IRP *>(request)), sizeof(IRP));
    function(static_cast<void *>(&request->stack), sizeof(request->stack));
}

void PutToRest(Request *request)
{
    ForEachDriverPart(request,
                      [](void *part, size_t bytes)
                      {
                          FillFreed(part, bytes);
                          ForbidAccess(part, bytes);
                      });
}

void WakeFromRest(Request *request)
{
    ForEachDriverPart(request,
                      [request](void *part, size_t bytes)
                      {
                          AllowAccess(part, bytes);
                          if (!IsFreedPattern(part, bytes))
                          {
                              Bugcheck("IRP_USED_AFTER_COMPLETION", "%s request %p was written after it was completed",
                                       MajorFunctionName(request->spec.major), static_cast<void *>(request));
                          }
                      });
}

} // namespace

RequestPool::RequestPool(bool verifier) : verifier_(verifier) {}

RequestPool::~RequestPool()
{
    for (Request *request : free_)
    {
        if (verifier_)
        {
            WakeFromRest(request);
        }
    }
}

Request *RequestPool::Allocate()
{
    Request *request = TakeFree();

    ForEachDriverPart(request, [](void *part, size_t bytes) { std::memset(part, 0, bytes); });
    request->references.store(2, std::memory_order_relaxed);
    request->state.store(Request::State::kActive, std::memory_order_release);
    return request;
}

Request *RequestPool::TakeFree()
{
    std::lock_guard<std::mutex> lock(mutex_);
    Request *request;

    if (free_.size() <= (verifier_ ? kRestingRequests : 0))
    {
        all_.push_back(std::make_unique<Request>());
        return all_.back().get();
    }
    if (verifier_)
    {
        request = free_.front();
        free_.pop_front();
        WakeFromRest(request);
    }
    else
    {
        // Prefers the request that was freed last: it is still in the processor's cache.
        request = free_.back();
        free_.pop_back();
    }
    return request;
}

void RequestPool::Release(Request *request)
{
    if (request->references.fetch_sub(1, std::memory_order_acq_rel) != 1)
    {
        return;
    }
    request->state.store(Request::State::kFree, std::memory_order_release);
    if (verifier_)
    {
        PutToRest(request);
    }

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
