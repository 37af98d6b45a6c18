// What every device class of JavaScript has: reading by a pump, writing, controlling, and closing.
//
// Concurrency: methods run on the JavaScript thread. Closing runs on a thread of its own, because it waits for the
// driver; nothing of it waits for JavaScript, so that the end of the environment can wait for it in turn.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "device.h"
#include "event_pump.h"
#include "js_queue.h"

namespace netverdict
{

class JsDevice
{
  public:
    // `options` has readBuffers, readBufferSize and highWaterMark. `close` closes the device once no read is left, on
    // any thread. Throws where there is no memory or no thread.
    JsDevice(Device &device, const Napi::Object &options, const Napi::Function &on_readable,
             std::function<void()> close);
    ~JsDevice();

    JsDevice(const JsDevice &) = delete;
    JsDevice &operator=(const JsDevice &) = delete;

    Napi::Value Take(const Napi::CallbackInfo &info);
    Napi::Value End(const Napi::CallbackInfo &info);
    Napi::Value Write(const Napi::CallbackInfo &info);
    Napi::Value Control(const Napi::CallbackInfo &info);
    void RefProcess(const Napi::CallbackInfo &info);
    void UnrefProcess(const Napi::CallbackInfo &info);

    // Keeps `info.This()` alive until the promise is settled.
    Napi::Value Close(const Napi::CallbackInfo &info);

    // The object was collected: closes the device, and warns where that was forgotten.
    void Finalize(Napi::BasicEnv env);

    bool is_open() const { return !is_closing_; }
    JsQueue &queue() { return queue_; }

  private:
    void StartClosing();
    void CloseDevice();
    void FinishClosing();
    void CloseAndWait();
    static void OnEnvironmentEnd(void *self);

    Device &device_;
    const napi_env env_;
    const std::function<void()> close_;
    JsQueue queue_;
    Napi::FunctionReference on_readable_;
    std::optional<EventPump> pump_; // until closed
    std::thread closer_;
    std::vector<Napi::Promise::Deferred> closing_;
    Napi::ObjectReference kept_;
    std::optional<int32_t> end_;
    bool is_closing_ = false;
    bool is_closed_ = false;
};

} // namespace netverdict
