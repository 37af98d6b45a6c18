// Between JavaScript's values and the simulated network's. The library has checked every argument before it comes here.
#pragma once

#include <napi.h>

#include <vector>

#include "net/stack.h"
#include "sources/flow_load.h"
#include "sources/replay.h"

namespace netverdict
{

uint64_t ToUint64(const Napi::Value &number);
std::vector<uint8_t> ToBytes(const Napi::Value &uint8_array);
sim::net::FlowSpec ToFlowSpec(const Napi::Object &spec);
sim::sources::ReplayOptions ToReplayOptions(const Napi::Object &options);
sim::sources::FlowLoadOptions ToFlowLoadOptions(const Napi::Object &options);

Napi::Uint8Array FromBytes(Napi::Env env, const uint8_t *bytes, size_t length);
Napi::Object FromOutcome(Napi::Env env, const sim::net::Outcome &outcome);
Napi::Object FromCounters(Napi::Env env, const sim::net::StackCounters &counters);
Napi::Object FromProgress(Napi::Env env, const sim::sources::ReplayProgress &progress);
Napi::Object FromReplaySummary(Napi::Env env, const sim::sources::ReplaySummary &summary);
Napi::Object FromLoadResult(Napi::Env env, const sim::sources::FlowLoadResult &result);

} // namespace netverdict
