// The class EmbeddedDevice as JavaScript sees it: a device on a simulated computer, and that computer's network.
#pragma once

#include <napi.h>

#include <memory>

#include "embedded_device.h"
#include "../guard.h"
#include "../js_device.h"
#include "network.h"

namespace netverdict
{

class JsEmbeddedDevice final : public Napi::ObjectWrap<JsEmbeddedDevice>
{
  public:
    static Napi::Function Define(Napi::Env env);

    // new EmbeddedDevice(options, onReadable)
    explicit JsEmbeddedDevice(const Napi::CallbackInfo &info);

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
    template <auto method> Napi::Value OfNetwork(const Napi::CallbackInfo &info);
    template <auto action> void DoOnNetwork(const Napi::CallbackInfo &info);

    void Open(const Napi::CallbackInfo &info);

    // Throws where the device is not open.
    void RequireOpen(Napi::Env env);

    // Each uses the ones before it until it ends.
    std::unique_ptr<EmbeddedDevice> device_; // until closed
    std::unique_ptr<Device> wrapped_;
    std::unique_ptr<Network> network_;
    std::unique_ptr<JsDevice> js_;
};

} // namespace netverdict
