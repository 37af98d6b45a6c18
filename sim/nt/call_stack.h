// Call stacks: capture, hash and describe the callers of a function.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace sim::nt
{

class CallStack
{
  public:
    // Captures the stack, innermost frame first, without the `skip` innermost callers of Capture.
    static CallStack Capture(size_t skip);

    // Captures only down to the frame that called the driver, so that all callers of the driver give the same stack.
    // Captures the whole stack where the driver does not run.
    static CallStack CaptureInDriver(size_t skip);

    bool empty() const { return count_ == 0; }

    // The hash is the same in every process of one build.
    uint64_t Hash() const;

    // Gives "function+0x1c < caller+0x40 < ..."; a frame without a symbol is module and offset.
    std::string Describe() const;

  private:
    static constexpr size_t kFrames = 8;
    static constexpr size_t kFramesInDriver = 24;

    static CallStack CaptureUpTo(const void *end, size_t skip, size_t frames);

    std::array<void *, kFramesInDriver> frames_{};
    size_t count_ = 0;
};

// Returns the name of the function at an address, or its module and offset.
std::string DescribeAddress(const void *address);

} // namespace sim::nt
