// The verifier's copy of the data that a callout sees. It is overwritten when the classify returns.
// A driver that keeps a pointer into the copy then reads garbage, so the mistake is found.
//
// Concurrency: an object belongs to the thread that creates it.
#pragma once

#include <ntddk.h>

#include <ndis.h>

#include <fwpsk.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace sim::wfp
{

class ClassifyCopy
{
  public:
    ClassifyCopy(const FWPS_INCOMING_VALUES0 &values, const FWPS_INCOMING_METADATA_VALUES0 &metadata);
    ~ClassifyCopy();

    ClassifyCopy(const ClassifyCopy &) = delete;
    ClassifyCopy &operator=(const ClassifyCopy &) = delete;

    FWPS_INCOMING_VALUES0 *values() const { return values_; }
    FWPS_INCOMING_METADATA_VALUES0 *metadata() const { return metadata_; }

  private:
    class Buffer;
    struct Ring;

    static Ring &RingOfThread();
    void *Add(const void *bytes, size_t length);
    void CopyPointee(FWP_VALUE0 *value);

    Buffer &buffer_;
    FWPS_INCOMING_VALUES0 *values_ = nullptr;
    FWPS_INCOMING_METADATA_VALUES0 *metadata_ = nullptr;
};

} // namespace sim::wfp
