// The JavaScript class EmbeddedDevice: the driver's client on an embedded computer.
#pragma once

#include <napi.h>

#include <future>
#include <memory>

#include "embedded_device.h"
#include "../guard.h"
#include "../js_device.h"

namespace netverdict
{

class JsEmbeddedComputer;

class JsEmbeddedDevice final : public Napi::ObjectWrap<JsEmbeddedDevice>
{
  public:
    static Napi::Function Define(Napi::Env env);

    // new EmbeddedDevice(computer, options, onReadable). An error has the `status` of the failed open.
    // Computer and device keep each other alive: outcomes of the computer's network need its client.
    explicit JsEmbeddedDevice(const Napi::CallbackInfo &info);

    // The object or its computer was collected.
    void Finalize(Napi::BasicEnv env) override;

    void StartClosing() { js_->StartClosing(Value()); }

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
    std::shared_ptr<Device> OpenOn(Napi::Env env, JsEmbeddedComputer &computer);
    void Undo();

    // The computer waits for this before it ends.
    std::promise<void> closed_;
    std::unique_ptr<JsDevice> js_;
    JsEmbeddedComputer *computer_ = nullptr; // until closed
};

} // namespace netverdict
