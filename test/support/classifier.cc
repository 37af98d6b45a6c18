#include "support/classifier.h"

#include "support/packet_chain.h"

#include "nt/fault_injection.h"

namespace kext_test
{

Classifier::Answer Classifier::Classify(Indication &indication, void *layer_data, bool can_pend)
{
    sim::wfp::ClassifyInput input;
    Answer answer;

    input.layer = indication.values().layerId;
    input.values = &indication.values();
    input.metadata = &indication.metadata();
    input.layer_data = layer_data;
    input.established = indication.established();
    input.can_pend = can_pend;
    if (can_pend)
    {
        input.on_complete = [completions = answer.completions, with = answer.completed_with](NET_BUFFER_LIST *list)
        {
            ++*completions;
            *with = list != nullptr ? BytesOf(list->FirstNetBuffer) : ByteVector();
        };
    }
    BeginFailing();
    answer.result = machine_.wfp().Classify(input);
    EndFailing();
    return answer;
}

void Classifier::FailNth(uint64_t n, bool all)
{
    fail_nth_ = n;
    fail_all_ = all;
    failing_ = true;
    failures_ = 0;
}

uint64_t Classifier::StopFailing()
{
    failing_ = false;
    return failures_;
}

void Classifier::BeginFailing()
{
    if (failing_ && fail_all_)
    {
        machine_.faults().FailAll();
    }
    else if (failing_)
    {
        machine_.faults().FailNth(fail_nth_);
    }
}

void Classifier::EndFailing()
{
    if (failing_)
    {
        failures_ += machine_.faults().failures();
        fail_nth_ = fail_nth_ >= machine_.faults().calls() ? fail_nth_ - machine_.faults().calls() : UINT64_MAX;
        machine_.faults().Stop();
    }
}

} // namespace kext_test
