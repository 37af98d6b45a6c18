// Which offloads of the network adapters the callouts leave on.
//
// Microsoft documents three rules:
//   checksums, large send, USO: off for the traffic of every filter that names a callout without the flag
//   ("FWPS_CALLOUT2 structure").
//   RSC: off while a callout without the flag is registered, with or without a filter
//   ("Programming Considerations for RSC Drivers").
//   URO: off while a callout without the flag is registered at a URO-sensitive layer
//   ("UDP Receive Segment Coalescing Offload"). The page names no such layer, so every layer is one here.
//
// Concurrency: has no state.
#pragma once

#include "engine.h"
#include "objects.h"

namespace sim::wfp
{

// The first build of Windows whose callouts have flags for USO and URO.
constexpr uint32_t kFirstBuildWithUdpFlags = 25876;

// The flags that callouts of this build of Windows may have.
UINT32 KnownCalloutFlags(uint32_t windows_build);

OffloadState OffloadsOf(const Configuration &configuration, const RuntimeCallouts &callouts, uint32_t windows_build);

} // namespace sim::wfp
