// The module. Each environment (main thread, worker) gets its own classes and functions. The module has no state.
#include <napi.h>

#ifdef NETVERDICT_EMBEDDED
#include "embedded/js_embedded_computer.h"
#include "embedded/js_embedded_device.h"
#endif
#ifdef _WIN32
#include "win32/js_service.h"
#include "win32/js_windows_device.h"
#endif

namespace
{

Napi::Object Init(Napi::Env env, Napi::Object exports)
{
#ifdef NETVERDICT_EMBEDDED
    exports.Set("EmbeddedComputer", netverdict::JsEmbeddedComputer::Define(env));
    exports.Set("EmbeddedDevice", netverdict::JsEmbeddedDevice::Define(env));
#endif
#ifdef _WIN32
    exports.Set("WindowsDevice", netverdict::JsWindowsDevice::Define(env));
    exports.Set("service", netverdict::DefineService(env));
#endif
    return exports;
}

} // namespace

NODE_API_MODULE(NODE_GYP_MODULE_NAME, Init)
