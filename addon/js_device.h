// The common part of all device classes of JavaScript: reads through a pump, writes, controls and closing.
//
// Concurrency: methods run on the JavaScript thread.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
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
    // `options` has readBuffers, readBufferSize and highWaterMark. Throws if there is no memory or no thread.
    // The device is closed once no read is left. If the driver does not end a read, the read keeps the device.
    // Then `released` runs on any thread, and after that `closed` on the JavaScript thread.
    JsDevice(
        std::shared_ptr<Device> device, const Napi::Object &options, const Napi::Function &on_readable,
        std::function<void()> released = [] {}, std::function<void()> closed = [] {});

    JsDevice(const JsDevice &) = delete;
    JsDevice &operator=(const JsDevice &) = delete;

    // Begins to read.
    void Start(const Napi::CallbackInfo &info);

    Napi::Value Take(const Napi::CallbackInfo &info);
    Napi::Value End(const Napi::CallbackInfo &info);
    Napi::Value Write(const Napi::CallbackInfo &info);
    Napi::Value Control(const Napi::CallbackInfo &info);
    void RefProcess(const Napi::CallbackInfo &info);
    void UnrefProcess(const Napi::CallbackInfo &info);

    // Returns a promise, and keeps `info.This()` alive until that is settled.
    Napi::Value Close(const Napi::CallbackInfo &info);

    // Closes without a promise, and keeps `self` alive until it is closed.
    void StartClosing(const Napi::Object &self);

    // The object was collected. Closes the device, and warns if the application forgot to.
    void Finalize(Napi::BasicEnv env);

  private:
    std::shared_ptr<Device> device_; // until closed
    JsQueue queue_;
    Napi::FunctionReference on_readable_;
    std::optional<EventPump> pump_; // until closed
    std::optional<int32_t> end_;
    JsCloser closer_;
};

} // namespace netverdict
