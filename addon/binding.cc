// The module: one class, made anew for each environment (main thread, worker), and no state of its own.
#include <napi.h>

#include "js_embedded_device.h"
#include "js_service.h"

namespace
{

Napi::Object Init(Napi::Env env, Napi::Object exports)
{
    exports.Set("EmbeddedDevice", netverdict::JsEmbeddedDevice::Define(env));
#ifdef _WIN32
    exports.Set("service", netverdict::DefineService(env));
#endif
    return exports;
}

} // namespace

NODE_API_MODULE(NODE_GYP_MODULE_NAME, Init)
