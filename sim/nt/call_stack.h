// Where a call came from.
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
    // Innermost first, without the `skip` innermost callers of Capture.
    static CallStack Capture(size_t skip);

    // The same down to where the driver was called, so that it is the same whoever called; deeper than that where the
    // driver does not run.
    static CallStack CaptureInDriver(size_t skip);

    bool empty() const { return count_ == 0; }

    // The same in every process of one build.
    uint64_t Hash() const;

    // "function+0x1c < caller+0x40 < ...", as far as the symbols are known; otherwise module and offset.
    std::string Describe() const;

  private:
    static constexpr size_t kFrames = 8;
    static constexpr size_t kFramesInDriver = 24;

    static CallStack CaptureUpTo(const void *end, size_t skip, size_t frames);

    std::array<void *, kFramesInDriver> frames_{};
    size_t count_ = 0;
};

// The name of the function at an address, or its module and offset.
std::string DescribeAddress(const void *address);

} // namespace sim::nt
