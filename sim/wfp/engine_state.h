// The parts of an engine, and the way from a Fwpm*/Fwps* call to them.
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

    // Whether the function that asks is to fail.
    bool FaultInjected();

    NTSTATUS Pend(HANDLE completion_handle, HANDLE *context);

    // For calls that may call out of the driver, or back into it: no lock may be held, and inside a classify the IRQL
    // must be the one that the callout was called at.
    void RequireNothingHeld(const char *function) const;

    Machine &machine;
    ServiceState service;
    Management management;
    PendedOperations pended;
    Injections injections;
    NetBufferLists lists;
    std::atomic<Reauthorizer *> reauthorizer{nullptr};
    std::atomic<NTSTATUS> pend_failure{STATUS_SUCCESS};
    std::atomic<uint64_t> classifies{0};

  private:
    void FiltersChanged(const LayerSet &layers);

    const bool verifier_;
    std::array<std::atomic<bool>, kLayerIds> reauthorization_queued_{};
};

} // namespace sim::wfp
