// An I/O request: an IRP with all that it needs on its way to the driver and back. Requests are reused.
//
// A new request has two references: one of the call of the dispatch routine, one of the driver.
// The driver's is released when the request has completed. The request is reused when both are released.
// A request that is not marked pending completes when its dispatch routine has returned, as on Windows:
// until then its handle cannot be closed, so the driver cannot be unloaded under a dispatch routine that waits.
#pragma once

#include <ntddk.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "nt/io_result.h"

namespace sim::nt
{

class File;
class ThreadControl;

// One operation as user mode requests it.
struct RequestSpec
{
    UCHAR major = 0;
    ULONG control_code = 0;
    const void *in = nullptr;
    uint32_t in_length = 0;
    void *out = nullptr;
    uint32_t out_length = 0;
    IoCompletion completion = nullptr;
    void *context = nullptr;
};

struct Request : IRP
{
    enum class State : uint8_t
    {
        kFree,
        kActive,
        kCompleted
    };

    IO_STACK_LOCATION stack;
    IO_SECURITY_CONTEXT security;
    MDL mdl;
    RequestSpec spec;
    File *file;
    ThreadControl *issuer; // the thread that must not end before the request; nullptr: none
    std::atomic<State> state{State::kFree};
    std::atomic<uint32_t> references{0};
    bool listed; // is in its file's list of outstanding requests, by ThreadListEntry
};

class RequestPool
{
  public:
    // With `verifier` set, a completed request is filled with a pattern and rests before it is reused.
    // A late use of the request is then found.
    explicit RequestPool(bool verifier);
    ~RequestPool();

    RequestPool(const RequestPool &) = delete;
    RequestPool &operator=(const RequestPool &) = delete;

    // Returns a request with two references and a zeroed IRP.
    Request *Allocate();
    void Release(Request *request);

  private:
    static constexpr size_t kRestingRequests = 256;

    Request *TakeFree();

    const bool verifier_;
    std::mutex mutex_; // guards the members below
    std::vector<std::unique_ptr<Request>> all_;
    std::deque<Request *> free_;
};

const char *MajorFunctionName(UCHAR major);

} // namespace sim::nt
