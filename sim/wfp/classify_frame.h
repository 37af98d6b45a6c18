// The classifies that the calling thread is inside of, innermost first.
#pragma once

#include "engine.h"
#include "layers.h"
#include "pended_operations.h"

#include <memory>

namespace sim::wfp
{

class EngineState;

struct ClassifyFrame
{
    ClassifyFrame(EngineState &engine_of_frame, const ClassifyInput &input_of_frame, const Layer &layer_of_frame,
                  KIRQL irql_of_frame)
        : engine(engine_of_frame), input(input_of_frame), layer(layer_of_frame), irql(irql_of_frame), outer(Top())
    {
        Top() = this;
    }

    ~ClassifyFrame() { Top() = outer; }

    ClassifyFrame(const ClassifyFrame &) = delete;
    ClassifyFrame &operator=(const ClassifyFrame &) = delete;

    static ClassifyFrame *&Top()
    {
        thread_local ClassifyFrame *top = nullptr;
        return top;
    }

    // The innermost classify of this engine that the calling thread is inside of, or nullptr.
    static ClassifyFrame *Find(const EngineState &engine)
    {
        ClassifyFrame *frame = Top();

        while (frame != nullptr && &frame->engine != &engine)
        {
            frame = frame->outer;
        }
        return frame;
    }

    EngineState &engine;
    const ClassifyInput &input;
    const Layer &layer;
    KIRQL irql; // the IRQL at which the driver is called
    ClassifyFrame *const outer;
    bool origin_linked = false; // a copy was allocated inside; the origin counts the frame until it ends
    std::shared_ptr<PendedOperation> pended;
};

} // namespace sim::wfp
