// One layer's filters as a classify reads them: immutable, in the order of evaluation.
#pragma once

#include "layers.h"
#include "objects.h"

#include <memory>
#include <vector>

namespace sim::wfp
{

struct SnapshotEntry
{
    const Filter *filter;
    FWPS_CALLOUT_CLASSIFY_FN1 classify; // of callout kinds; nullptr while the callout is not registered
    uint32_t sub_layer_end;             // index of the first entry of the next sublayer
    FilterKind kind;
    bool clears_right;
};

struct LayerSnapshot
{
    const Layer *layer;
    std::vector<SnapshotEntry> entries;
    std::vector<std::shared_ptr<const Filter>> filters; // keeps entries' pointers alive
};

} // namespace sim::wfp
