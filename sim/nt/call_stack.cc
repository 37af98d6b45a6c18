#include "nt/call_stack.h"

#if !defined(_WIN32)
#include <dlfcn.h>
#include <unwind.h>
#endif

#include "nt/thread_state.h"

#include <cstdio>
#include <cstring>

#if defined(_WIN32)
// Declared here because kernel32's own headers clash with the simulated kernel's headers.
extern "C" __declspec(dllimport) unsigned short RtlCaptureStackBackTrace(unsigned long skip, unsigned long count,
                                                                         void **frames, unsigned long *hash);
#endif

namespace sim::nt
{

namespace
{

#if !defined(_WIN32)

struct Walk
{
    void **frames;
    size_t count;
    size_t skip;
    size_t most;
    uintptr_t end; // capture stops above this stack address
};

_Unwind_Reason_Code VisitFrame(_Unwind_Context *context, void *argument)
{
    Walk &walk = *static_cast<Walk *>(argument);
    void *address = reinterpret_cast<void *>(_Unwind_GetIP(context));

    if (address == nullptr)
    {
        return _URC_END_OF_STACK;
    }
    // A frame's CFA is the end of the frame that it called.
    if (_Unwind_GetCFA(context) > walk.end)
    {
        walk.count -= walk.count == 0 ? 0 : 1;
        return _URC_END_OF_STACK;
    }
    if (walk.skip != 0)
    {
        walk.skip--;
        return _URC_NO_REASON;
    }
    walk.frames[walk.count++] = address;
    return walk.count == walk.most ? _URC_END_OF_STACK : _URC_NO_REASON;
}

std::string Format(const char *name, size_t offset)
{
    char text[256];

    std::snprintf(text, sizeof(text), "%s+0x%zx", name, offset);
    return text;
}

#endif

} // namespace

__attribute__((noinline)) CallStack CallStack::Capture(size_t skip)
{
    return CaptureUpTo(nullptr, skip + 1, kFrames);
}

__attribute__((noinline)) CallStack CallStack::CaptureInDriver(size_t skip)
{
    return CaptureUpTo(thread_state.driver_caller, skip + 1, kFramesInDriver);
}

__attribute__((noinline)) CallStack CallStack::CaptureUpTo(const void *end, size_t skip, size_t frames)
{
    CallStack stack;

#if defined(_WIN32)
    static_cast<void>(end); // this platform does not report where a frame lies
    stack.count_ = RtlCaptureStackBackTrace(static_cast<unsigned long>(skip + 1), static_cast<unsigned long>(frames),
                                            stack.frames_.data(), nullptr);
#else
    Walk walk{stack.frames_.data(), 0, skip + 1, frames,
              end == nullptr ? UINTPTR_MAX : reinterpret_cast<uintptr_t>(end)};

    _Unwind_Backtrace(VisitFrame, &walk);
    stack.count_ = walk.count;
#endif
    return stack;
}

uint64_t CallStack::Hash() const
{
    const uintptr_t base = reinterpret_cast<uintptr_t>(&CallStack::Capture); // differs between processes
    uint64_t hash = 0xCBF29CE484222325;

    for (size_t i = 0; i < count_; i++)
    {
        hash = (hash ^ (reinterpret_cast<uintptr_t>(frames_[i]) - base)) * 0x100000001B3;
        hash ^= hash >> 29;
    }
    return hash;
}

std::string CallStack::Describe() const
{
    std::string text;

    for (size_t i = 0; i < count_; i++)
    {
        text += i == 0 ? "" : " < ";
        text += DescribeAddress(frames_[i]);
    }
    return text;
}

std::string DescribeAddress(const void *address)
{
#if !defined(_WIN32)
    Dl_info info;

    if (dladdr(address, &info) != 0)
    {
        const char *bytes = static_cast<const char *>(address);

        if (info.dli_sname != nullptr)
        {
            return Format(info.dli_sname, static_cast<size_t>(bytes - static_cast<const char *>(info.dli_saddr)));
        }
        if (info.dli_fname != nullptr)
        {
            const char *slash = std::strrchr(info.dli_fname, '/');

            return Format(slash == nullptr ? info.dli_fname : slash + 1,
                          static_cast<size_t>(bytes - static_cast<const char *>(info.dli_fbase)));
        }
    }
#endif
    char text[32];

    std::snprintf(text, sizeof(text), "%p", address);
    return text;
}

} // namespace sim::nt
