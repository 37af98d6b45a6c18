// What every device class of JavaScript has: reading by a pump, writing, controlling, and closing.
//
// Concurrency: methods run on the JavaScript thread.
#pragma once

#include <napi.h>

#include <functional>
#include <optional>

#include "device.h"
#include "event_pump.h"
#include "js_closer.h"
#include "js_queue.h"

namespace netverdict
{

class JsDevice
{
  public:
    // `options` has readBuffers, readBufferSize and highWaterMark. `close` closes the device once no read is left, on
    // any thread; `closed` is told then, on the JavaScript thread. Throws where there is no memory or no thread.
    JsDevice(
        Device &device, const Napi::Object &options, const Napi::Function &on_readable, std::function<void()> close,
        std::function<void()> closed = [] {});

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

    // Without a promise; keeps `self` alive.
    void StartClosing(const Napi::Object &self);

    // The object was collected: closes the device, and warns where that was forgotten.
    void Finalize(Napi::BasicEnv env);

  private:
    Device &device_;
    JsQueue queue_;
    Napi::FunctionReference on_readable_;
    std::optional<EventPump> pump_; // until closed
    std::optional<int32_t> end_;
    JsCloser closer_;
};

} // namespace netverdict
