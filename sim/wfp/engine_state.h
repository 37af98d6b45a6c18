// The parts of an engine, and how a Fwpm* or Fwps* call reaches them.
#pragma once

#include "classify_frame.h"
#include "engine.h"
#include "injections.h"
#include "management.h"
#include "net_buffer_lists.h"
#include "pended_operations.h"
#include "service_state.h"

#include <array>
#include <atomic>
#include <cstdint>

namespace sim::wfp
{

class EngineState
{
  public:
    explicit EngineState(Machine &machine);

    static EngineState &Current();

    ClassifyResult Classify(const ClassifyInput &input);

    // Returns whether the calling function must fail.
    bool FaultInjected();

    void Refuse(NTSTATUS status, uint32_t calls);

    // Returns STATUS_SUCCESS where the call is not refused.
    NTSTATUS RefusalOf(ManagementCall call) const;

    NTSTATUS Pend(HANDLE completion_handle, HANDLE *context);

    // Implements FwpsFlowAbort0.
    NTSTATUS AbortFlow(uint64_t flow_handle);

    // For calls that may lead out of the driver, or back into it: the driver may not hold any lock.
    // Inside a classify the IRQL must be the one at which the callout was called.
    void RequireNothingHeld(const char *function) const;

    Machine &machine;
    ServiceState service;
    Management management;
    PendedOperations pended;
    Injections injections;
    NetBufferLists lists;
    std::atomic<Reauthorizer *> reauthorizer{nullptr};
    std::atomic<FlowOwner *> flow_owner{nullptr};
    std::atomic<NTSTATUS> pend_failure{STATUS_SUCCESS};
    std::atomic<uint64_t> classifies{0};

  private:
    struct Refusal
    {
        NTSTATUS status = STATUS_SUCCESS;
        uint32_t calls = 0;
    };

    void FiltersChanged(const LayerSet &layers);

    const bool verifier_;
    std::atomic<Refusal> refusal_{};
    std::array<std::atomic<bool>, kLayerIds> reauthorization_queued_{};
};

} // namespace sim::wfp
