// The class EmbeddedDevice as JavaScript sees it: a device on a simulated computer, and that computer's network.
//
// Concurrency: methods run on the JavaScript thread. Closing runs on a thread of its own, because it waits for the
// driver and for traffic; nothing of it waits for JavaScript, so that the end of the environment can wait for it in
// turn.
#pragma once

#include <napi.h>

#include <memory>
#include <optional>
#include <thread>

#include "embedded_device.h"
#include "event_pump.h"
#include "js_queue.h"
#include "network.h"

namespace netverdict
{

class JsEmbeddedDevice final : public Napi::ObjectWrap<JsEmbeddedDevice>
{
  public:
    static Napi::Function Define(Napi::Env env);

    // new EmbeddedDevice(options, onReadable)
    explicit JsEmbeddedDevice(const Napi::CallbackInfo &info);
    ~JsEmbeddedDevice() override;

    void Finalize(Napi::BasicEnv env) override;

  private:
    using NetworkMethod = Napi::Value (Network::*)(const Napi::CallbackInfo &);
    using NetworkAction = void (Network::*)(const Napi::CallbackInfo &);

    Napi::Value Take(const Napi::CallbackInfo &info);
    Napi::Value End(const Napi::CallbackInfo &info);
    Napi::Value Write(const Napi::CallbackInfo &info);
    Napi::Value Control(const Napi::CallbackInfo &info);
    void RefProcess(const Napi::CallbackInfo &info);
    void UnrefProcess(const Napi::CallbackInfo &info);
    Napi::Value Close(const Napi::CallbackInfo &info);

    template <NetworkMethod method> Napi::Value Call(const Napi::CallbackInfo &info);
    template <NetworkAction action> void Do(const Napi::CallbackInfo &info);
    void Reauthorize(const Napi::CallbackInfo &info);
    Napi::Value Counters(const Napi::CallbackInfo &info);
    Napi::Value PoolBytes(const Napi::CallbackInfo &info);

    // Whether the device is open; otherwise throws in JavaScript.
    bool RequireOpen(Napi::Env env);

    void StartClosing();
    void CloseAndWait();
    static void OnEnvironmentEnd(void *self);

    std::unique_ptr<EmbeddedDevice> device_; // until closed
    std::unique_ptr<JsQueue> queue_;
    std::unique_ptr<Network> network_;
    std::unique_ptr<EventPump> pump_;
    Napi::FunctionReference on_readable_;
    std::thread closer_;
    std::vector<Napi::Promise::Deferred> closing_;
    std::optional<int32_t> end_;
    napi_env env_ = nullptr;
    bool is_open_ = false;
    bool is_closed_ = false;
};

} // namespace netverdict
