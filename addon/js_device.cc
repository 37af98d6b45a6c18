#include "js_device.h"

#include <algorithm>
#include <system_error>
#include <utility>

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

JsDevice::JsDevice(Device &device, const Napi::Object &options, const Napi::Function &on_readable,
                   std::function<void()> close)
    : device_(device), env_(options.Env()), close_(std::move(close)), queue_(options.Env()),
      on_readable_(Napi::Persistent(on_readable)),
      pump_(std::in_place, device, PumpOptions(options),
            [this] { queue_.Post([this](Napi::Env env) { CallIntoApplication(env, on_readable_, {}); }); })
{
    napi_add_env_cleanup_hook(env_, &OnEnvironmentEnd, this);
}

JsDevice::~JsDevice()
{
    if (!is_closed_)
    {
        CloseAndWait();
        napi_remove_env_cleanup_hook(env_, &OnEnvironmentEnd, this);
    }
}

void JsDevice::Finalize(Napi::BasicEnv basic_env)
{
    if (is_closed_)
    {
        return;
    }
    CloseAndWait();
    napi_remove_env_cleanup_hook(env_, &OnEnvironmentEnd, this);
    try
    {
        WarnOfForgotten(Napi::Env(basic_env));
    }
    catch (const Napi::Error &) // nobody is there to catch it
    {
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
    if (is_open())
    {
        result = device_.Write(bytes.Data(), static_cast<uint32_t>(bytes.ElementLength()));
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
    if (is_open())
    {
        result = device_.Control(info[0].As<Napi::Number>().Uint32Value(), input.Data(),
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
    auto closed = Napi::Promise::Deferred::New(info.Env());
    if (is_closed_)
    {
        closed.Resolve(info.Env().Undefined());
        return closed.Promise();
    }
    closing_.push_back(closed);
    if (!is_closing_)
    {
        kept_ = Napi::Persistent(info.This().As<Napi::Object>());
        queue_.Ref(info.Env());
        StartClosing();
    }
    return closed.Promise();
}

void JsDevice::StartClosing()
{
    is_closing_ = true;
    try
    {
        closer_ = std::thread([this] { CloseDevice(); });
    }
    catch (const std::system_error &)
    {
        CloseDevice();
    }
}

void JsDevice::CloseDevice()
{
    pump_->Stop();
    close_();
    queue_.Post(
        [this](Napi::Env env)
        {
            FinishClosing();
            napi_remove_env_cleanup_hook(env_, &OnEnvironmentEnd, this);
            for (const Napi::Promise::Deferred &closed : closing_)
            {
                closed.Resolve(env.Undefined());
            }
            closing_.clear();
            on_readable_.Reset();
            kept_.Reset();
        });
}

void JsDevice::FinishClosing()
{
    if (closer_.joinable())
    {
        closer_.join();
    }
    is_closed_ = true;
    pump_.reset();
    queue_.Close();
}

void JsDevice::CloseAndWait()
{
    if (is_closed_)
    {
        return;
    }
    if (!is_closing_)
    {
        StartClosing();
    }
    FinishClosing();
}

void JsDevice::OnEnvironmentEnd(void *self)
{
    static_cast<JsDevice *>(self)->CloseAndWait();
}

} // namespace netverdict
