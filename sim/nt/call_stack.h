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
    static constexpr size_t kMaximumFrames = 8;

    // Innermost first, without the `skip` innermost callers of Capture.
    static CallStack Capture(size_t skip);

    uint64_t Hash() const;

    // "function+0x1c < caller+0x40 < ...", as far as the symbols are known; otherwise module and offset.
    std::string Describe() const;

  private:
    std::array<void *, kMaximumFrames> frames_{};
    size_t count_ = 0;
};

// The name of the function at an address, or its module and offset.
std::string DescribeAddress(const void *address);

} // namespace sim::nt
