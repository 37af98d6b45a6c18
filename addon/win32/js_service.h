// The driver's service as JavaScript sees it: functions that return promises. Windows only.
#pragma once

#include <napi.h>

namespace netverdict
{

// {install, start, stop, remove, query, isTestSigningOn}. The promises resolve, whether the request succeeded or not,
// to {code, call}; query's also has {state, exitCode, startType, path}.
Napi::Object DefineService(Napi::Env env);

} // namespace netverdict
