// An I/O request: an IRP with everything that its way to the driver and back needs, reused when it is over.
//
// A request has two references to begin with: of the call of the dispatch routine, and of the driver, which gives it up
// by IoCompleteRequest. It is reused when both are gone.
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

// What user mode asks for.
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
    MDL mdl;
    RequestSpec spec;
    File *file;
    std::atomic<State> state{State::kFree};
    std::atomic<uint32_t> references{0};
    bool listed; // by ThreadListEntry among its file's outstanding requests
};

class RequestPool
{
  public:
    // verifier: a request is filled with a pattern when it is over, and rests for a while before it is reused, so that
    // a late use of it is found.
    explicit RequestPool(bool verifier);
    ~RequestPool();

    RequestPool(const RequestPool &) = delete;
    RequestPool &operator=(const RequestPool &) = delete;

    // With two references; the IRP is zeroed.
    Request *Allocate();
    void Release(Request *request);

  private:
    static constexpr size_t kRestingRequests = 256;

    Request *TakeFree();

    const bool verifier_;
    std::mutex mutex_; // of everything below
    std::vector<std::unique_ptr<Request>> all_;
    std::deque<Request *> free_;
};

const char *MajorFunctionName(UCHAR major);

} // namespace sim::nt
