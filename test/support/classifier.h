// Runs classifies at the filter engine. The driver's calls within a classify can be made to fail.
#pragma once

#include "support/bytes.h"
#include "support/indication.h"

#include <memory>

namespace kext_test
{

using sim::wfp::ClassifyResult;

class Classifier
{
  public:
    // What every layer that names them gives, until SetLink says otherwise.
    static constexpr uint32_t kCompartment = 3;
    static constexpr IF_INDEX kInterface = 11;
    static constexpr IF_INDEX kSubInterface = 12;

    // The result of one classify. If the driver pends the operation, its completions are counted.
    struct Answer
    {
        ClassifyResult result;
        std::shared_ptr<int> completions = std::make_shared<int>(0);
        std::shared_ptr<ByteVector> completed_with = std::make_shared<ByteVector>(); // the packet; empty: none

        bool permitted() const { return result.action == ClassifyResult::kPermit; }
        bool blocked() const { return result.action == ClassifyResult::kBlock && !result.absorbed; }
        bool absorbed() const { return result.action == ClassifyResult::kBlock && result.absorbed; }
        bool pended() const { return result.pended; }
        int completed() const { return *completions; }
    };

    explicit Classifier(sim::Machine &machine) : machine_(machine) {}

    Answer Classify(Indication &indication, void *layer_data = nullptr, bool can_pend = false);

    // Fails call number `n` of the driver within classifies, or every call. Calls of the stack do not count.
    void FailNth(uint64_t n, bool all = false);

    // Returns how many calls have failed since FailNth.
    uint64_t StopFailing();

    // Where the following classifies are.
    void SetLink(IF_INDEX interface_index, uint32_t compartment = kCompartment)
    {
        interface_index_ = interface_index;
        compartment_ = compartment;
    }

    IF_INDEX interface_index() const { return interface_index_; }
    uint32_t compartment() const { return compartment_; }
    sim::Machine &machine() { return machine_; }

  private:
    void BeginFailing();
    void EndFailing();

    sim::Machine &machine_;
    IF_INDEX interface_index_ = kInterface;
    uint32_t compartment_ = kCompartment;
    bool failing_ = false;
    bool fail_all_ = false;
    uint64_t fail_nth_ = 0;
    uint64_t failures_ = 0;
};

} // namespace kext_test
