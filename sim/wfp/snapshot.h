// The filters of one layer as a classify reads them: immutable, in the order of evaluation.
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
    FWPS_CALLOUT_CLASSIFY_FN2 classify; // for callouts; nullptr while the callout is not registered
    uint64_t oldest_connection;         // the filter applies to connections that were established since this epoch
    uint32_t sub_layer_end;             // index of the first entry of the next sublayer
    FilterKind kind;
    bool clears_right;
};

struct LayerSnapshot
{
    const Layer *layer;
    std::vector<SnapshotEntry> entries;
    std::vector<std::shared_ptr<const Filter>> filters; // keeps the pointers of the entries alive
};

} // namespace sim::wfp
