// The NTSTATUS values that the addon distinguishes or returns itself ([MS-ERREF] 2.3).
#pragma once

#include <cstdint>

namespace netverdict
{

constexpr int32_t ToStatus(uint32_t value)
{
    return static_cast<int32_t>(value);
}

constexpr int32_t kStatusEndOfFile = ToStatus(0xC0000011);
constexpr int32_t kStatusDeviceAlreadyAttached = ToStatus(0xC0000038);
constexpr int32_t kStatusInsufficientResources = ToStatus(0xC000009A);
constexpr int32_t kStatusIoTimeout = ToStatus(0xC00000B5);
constexpr int32_t kStatusCancelled = ToStatus(0xC0000120);
constexpr int32_t kStatusFileClosed = ToStatus(0xC0000128);

} // namespace netverdict
