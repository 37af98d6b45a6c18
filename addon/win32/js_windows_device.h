// The JavaScript class WindowsDevice: the installed driver's device.
#pragma once

#include <napi.h>

#include <memory>

#include "../guard.h"
#include "../js_device.h"
#include "win32_device.h"

namespace netverdict
{

class JsWindowsDevice final : public Napi::ObjectWrap<JsWindowsDevice>
{
  public:
    static Napi::Function Define(Napi::Env env);

    // new WindowsDevice(options, onReadable). An error has the `status` of the failed open.
    explicit JsWindowsDevice(const Napi::CallbackInfo &info);

    void Finalize(Napi::BasicEnv env) override;

  private:
    template <auto method> Napi::Value OfDevice(const Napi::CallbackInfo &info)
    {
        return Guard(info.Env(), [&] { return (js_.get()->*method)(info); });
    }
    template <auto action> void DoOnDevice(const Napi::CallbackInfo &info)
    {
        Guard(info.Env(), [&] { (js_.get()->*action)(info); });
    }

    void Open(const Napi::CallbackInfo &info);

    std::unique_ptr<JsDevice> js_;
};

} // namespace netverdict
