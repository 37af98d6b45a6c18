#include "offloads.h"

namespace sim::wfp
{
namespace
{

constexpr UINT32 kUdpFlags = FWP_CALLOUT_FLAG_ALLOW_USO | FWP_CALLOUT_FLAG_ALLOW_URO;
constexpr UINT32 kFlagsOfEveryBuild = FWP_CALLOUT_FLAG_CONDITIONAL_ON_FLOW | FWP_CALLOUT_FLAG_ALLOW_OFFLOAD |
                                      FWP_CALLOUT_FLAG_ENABLE_COMMIT_ADD_NOTIFY |
                                      FWP_CALLOUT_FLAG_ALLOW_MID_STREAM_INSPECTION | FWP_CALLOUT_FLAG_ALLOW_RECLASSIFY |
                                      FWP_CALLOUT_FLAG_ALLOW_RSC | FWP_CALLOUT_FLAG_ALLOW_L2_BATCH_CLASSIFY;

} // namespace

UINT32 KnownCalloutFlags(uint32_t windows_build)
{
    return windows_build < kFirstBuildWithUdpFlags ? kFlagsOfEveryBuild : kFlagsOfEveryBuild | kUdpFlags;
}

OffloadState OffloadsOf(const Configuration &configuration, const RuntimeCallouts &callouts, uint32_t windows_build)
{
    // An old build asks for no flag that it does not know.
    const UINT32 assumed = ~KnownCalloutFlags(windows_build);
    UINT32 registered = ~0u;
    UINT32 at_layers = ~0u;
    UINT32 of_filters = ~0u;
    const auto flags_of = [&](UINT32 id)
    {
        const auto callout = callouts.find(id);
        return callout == callouts.end() ? ~0u : callout->second.functions.flags | assumed;
    };

    for (const auto &[id, callout] : callouts)
    {
        registered &= flags_of(id);
    }
    for (const auto &[key, callout] : configuration.callouts)
    {
        at_layers &= flags_of(callout->id);
    }
    for (const auto &[id, filter] : configuration.filters)
    {
        of_filters &= flags_of(filter->runtime.action.calloutId);
    }

    OffloadState state;

    state.checksums_and_large_send = (of_filters & FWP_CALLOUT_FLAG_ALLOW_OFFLOAD) != 0;
    state.rsc = (registered & FWP_CALLOUT_FLAG_ALLOW_RSC) != 0;
    state.uso = (of_filters & FWP_CALLOUT_FLAG_ALLOW_USO) != 0;
    state.uro = (at_layers & FWP_CALLOUT_FLAG_ALLOW_URO) != 0;
    return state;
}

} // namespace sim::wfp
