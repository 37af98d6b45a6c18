// The driver's service for JavaScript: functions that return promises. Windows only.
#pragma once

#include <napi.h>

namespace netverdict
{

// Returns {install, start, stop, remove, setPath, copyDriver, deleteDriver, query, versionOf, isTestSigningOn}.
// The promises resolve to {code, call}, whether the request succeeded or not.
// The result of query also has {state, exitCode, startType, path}, and that of copyDriver {path}.
// versionOf and isTestSigningOn return at once.
Napi::Object DefineService(Napi::Env env);

} // namespace netverdict
