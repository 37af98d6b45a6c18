// Converts between JavaScript values and those of the simulated network.
#pragma once

#include <napi.h>

#include "net/stack.h"
#include "sources/flow_load.h"
#include "sources/replay.h"
#include "../values.h"

namespace netverdict
{

sim::net::PacketWay ToPacketWay(const Napi::Value &way);
uint8_t ToLink(const Napi::Value &link); // a missing link is the first one
sim::net::FlowSpec ToFlowSpec(const Napi::Object &spec);
sim::sources::ReplayOptions ToReplayOptions(const Napi::Object &options);
sim::sources::FlowLoadOptions ToFlowLoadOptions(const Napi::Object &options);

Napi::Object FromOutcome(Napi::Env env, const sim::net::Outcome &outcome);
Napi::Object FromCounters(Napi::Env env, const sim::net::StackCounters &counters);
Napi::Object FromProgress(Napi::Env env, const sim::sources::ReplayProgress &progress);
Napi::Object FromReplaySummary(Napi::Env env, const sim::sources::ReplaySummary &summary);
Napi::Object FromLoadResult(Napi::Env env, const sim::sources::FlowLoadResult &result);

} // namespace netverdict
