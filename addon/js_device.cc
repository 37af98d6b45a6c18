#include "js_device.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "status.h"
#include "values.h"

namespace netverdict
{

namespace
{

const char *ReasonOf(int32_t status)
{
    switch (status)
    {
    case kStatusEndOfFile:
        return "eof";
    case kStatusCancelled:
        return "cancelled";
    default:
        return "error";
    }
}

EventPumpOptions PumpOptions(const Napi::Object &options)
{
    EventPumpOptions pump;
    pump.buffers = options.Get("readBuffers").As<Napi::Number>().Uint32Value();
    pump.buffer_size = options.Get("readBufferSize").As<Napi::Number>().Uint32Value();
    pump.high_water = ToUint64(options.Get("highWaterMark"));
    return pump;
}

void WarnOfForgotten(Napi::Env env)
{
    const auto process = env.Global().Get("process").As<Napi::Object>();
    process.Get("emitWarning")
        .As<Napi::Function>()
        .Call(process,
              {Napi::String::New(env, "A netverdict device was garbage-collected before it was closed, and is closed "
                                      "now. Call close() on it, or declare it with 'await using'."),
               Napi::String::New(env, "NetVerdictWarning")});
}

} // namespace

JsDevice::JsDevice(std::shared_ptr<Device> device, const Napi::Object &options, const Napi::Function &on_readable,
                   std::function<void()> released, std::function<void()> closed)
    : device_(std::move(device)), queue_(options.Env()), on_readable_(Napi::Persistent(on_readable)),
      pump_(std::in_place, device_, PumpOptions(options),
            [this] { queue_.Post([this](Napi::Env env) { CallIntoApplication(env, on_readable_, {}); }); }),
      closer_(
          options.Env(), queue_,
          [this, released = std::move(released)]
          {
              pump_->Stop();
              device_.reset();
              released();
          },
          [this, closed = std::move(closed)]
          {
              pump_.reset();
              on_readable_.Reset();
              closed();
          })
{
}

void JsDevice::Finalize(Napi::BasicEnv basic_env)
{
    if (!closer_.CloseAndWait())
    {
        return;
    }
    try
    {
        WarnOfForgotten(Napi::Env(basic_env));
    }
    catch (const Napi::Error &) // a finalizer has no caller to throw to
    {
    }
}

void JsDevice::Start(const Napi::CallbackInfo &)
{
    if (closer_.is_open())
    {
        pump_->Start();
    }
}

Napi::Value JsDevice::Take(const Napi::CallbackInfo &info)
{
    Napi::Env env = info.Env();
    if (!pump_)
    {
        end_ = end_.value_or(kStatusCancelled);
        return env.Null();
    }
    const std::optional<EventPump::Bytes> bytes = pump_->Front();
    if (!bytes)
    {
        end_ = pump_->end();
        return env.Null();
    }
    Napi::Uint8Array taken = FromBytes(env, bytes->data, bytes->length);
    pump_->Pop();
    return taken;
}

Napi::Value JsDevice::End(const Napi::CallbackInfo &info)
{
    Napi::Env env = info.Env();
    if (!end_)
    {
        return env.Null();
    }
    Napi::Object end = Napi::Object::New(env);
    end.Set("reason", ReasonOf(*end_));
    end.Set("status", FromStatus(env, *end_));
    return end;
}

Napi::Value JsDevice::Write(const Napi::CallbackInfo &info)
{
    Napi::Env env = info.Env();
    const auto bytes = info[0].As<Napi::Uint8Array>();
    IoResult result{kStatusFileClosed, 0};
    if (closer_.is_open())
    {
        result = device_->Write(bytes.Data(), static_cast<uint32_t>(bytes.ElementLength()));
    }
    Napi::Object written = Napi::Object::New(env);
    written.Set("status", FromStatus(env, result.status));
    written.Set("information", Napi::Number::New(env, static_cast<double>(result.information)));
    return written;
}

Napi::Value JsDevice::Control(const Napi::CallbackInfo &info)
{
    Napi::Env env = info.Env();
    const auto input = info[1].As<Napi::Uint8Array>();
    std::vector<uint8_t> output(info[2].As<Napi::Number>().Uint32Value());
    IoResult result{kStatusFileClosed, 0};
    if (closer_.is_open())
    {
        result = device_->Control(info[0].As<Napi::Number>().Uint32Value(), input.Data(),
                                  static_cast<uint32_t>(input.ElementLength()), output.data(),
                                  static_cast<uint32_t>(output.size()));
    }
    Napi::Object controlled = Napi::Object::New(env);
    controlled.Set("status", FromStatus(env, result.status));
    controlled.Set("output", FromBytes(env, output.data(), std::min<size_t>(output.size(), result.information)));
    return controlled;
}

void JsDevice::RefProcess(const Napi::CallbackInfo &info)
{
    queue_.Ref(info.Env());
}

void JsDevice::UnrefProcess(const Napi::CallbackInfo &info)
{
    queue_.Unref(info.Env());
}

Napi::Value JsDevice::Close(const Napi::CallbackInfo &info)
{
    return closer_.Close(info);
}

void JsDevice::StartClosing(const Napi::Object &self)
{
    closer_.Start(self);
}

} // namespace netverdict
