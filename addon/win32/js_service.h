// The driver's service for JavaScript: functions that return promises. Windows only.
#pragma once

#include <napi.h>

namespace netverdict
{

// Returns {install, start, stop, remove, query, isTestSigningOn}.
// Their promises resolve to {code, call}, whether the request succeeded or not.
// The result of query also has {state, exitCode, startType, path}.
Napi::Object DefineService(Napi::Env env);

} // namespace netverdict
