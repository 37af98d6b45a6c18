#include "js_embedded_device.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "conversions.h"

namespace netverdict
{

namespace
{

uint32_t NumberOf(const Napi::Object &options, const char *name)
{
    return options.Get(name).As<Napi::Number>().Uint32Value();
}

const char *ReasonOf(int32_t status)
{
    switch (status)
    {
    case STATUS_END_OF_FILE:
        return "eof";
    case STATUS_CANCELLED:
        return "cancelled";
    default:
        return "error";
    }
}

// NTSTATUS as the library compares them: unsigned.
Napi::Number FromStatus(Napi::Env env, int32_t status)
{
    return Napi::Number::New(env, static_cast<uint32_t>(status));
}

} // namespace

Napi::Function JsEmbeddedDevice::Define(Napi::Env env)
{
    using Self = JsEmbeddedDevice;
    return DefineClass(env, "EmbeddedDevice",
                       {
                           InstanceMethod<&Self::Take>("take"),
                           InstanceAccessor<&Self::End>("end"),
                           InstanceMethod<&Self::Write>("write"),
                           InstanceMethod<&Self::Control>("control"),
                           InstanceMethod<&Self::RefProcess>("ref"),
                           InstanceMethod<&Self::UnrefProcess>("unref"),
                           InstanceMethod<&Self::Close>("close"),
                           InstanceMethod<&Self::Call<&Network::Connect>>("connect"),
                           InstanceMethod<&Self::Call<&Network::Accept>>("accept"),
                           InstanceMethod<&Self::Call<&Network::Listen>>("listen"),
                           InstanceMethod<&Self::Do<&Network::CloseListener>>("closeListener"),
                           InstanceMethod<&Self::Do<&Network::Send>>("send"),
                           InstanceMethod<&Self::Do<&Network::Receive>>("receive"),
                           InstanceMethod<&Self::Do<&Network::CloseFlow>>("closeFlow"),
                           InstanceMethod<&Self::Do<&Network::Packet>>("packet"),
                           InstanceMethod<&Self::Reauthorize>("reauthorize"),
                           InstanceMethod<&Self::Call<&Network::Replay>>("replay"),
                           InstanceMethod<&Self::Call<&Network::Load>>("load"),
                           InstanceMethod<&Self::Do<&Network::Advance>>("advance"),
                           InstanceMethod<&Self::Counters>("counters"),
                           InstanceMethod<&Self::PoolBytes>("poolBytes"),
                           InstanceMethod<&Self::Do<&Network::OnWire>>("onWire"),
                       });
}

JsEmbeddedDevice::JsEmbeddedDevice(const Napi::CallbackInfo &info) : ObjectWrap(info), env_(info.Env())
{
    Napi::Env env = info.Env();
    const auto options = info[0].As<Napi::Object>();
    EmbeddedDeviceOptions device;
    device.virtual_clock = options.Get("virtualClock").ToBoolean();
    device.verifier = options.Get("verifier").ToBoolean();
    const NTSTATUS status = EmbeddedDevice::Open(device, &device_);
    if (!NT_SUCCESS(status))
    {
        char message[96];
        std::snprintf(message, sizeof message, "The driver's core could not be started: status 0x%08X.",
                      static_cast<uint32_t>(status));
        Napi::Error::New(env, message).ThrowAsJavaScriptException();
        return;
    }
    queue_ = std::make_unique<JsQueue>(env);
    network_ = std::make_unique<Network>(device_->machine(), *queue_);
    on_readable_ = Napi::Persistent(info[1].As<Napi::Function>());
    EventPumpOptions pump;
    pump.buffers = NumberOf(options, "readBuffers");
    pump.buffer_size = NumberOf(options, "readBufferSize");
    pump.high_water = ToUint64(options.Get("highWaterMark"));
    pump_ = std::make_unique<EventPump>(
        *device_, pump,
        [this] { queue_->Post([this](Napi::Env env) { CallIntoApplication(env, on_readable_, {}); }); });
    is_open_ = true;
    napi_add_env_cleanup_hook(env_, &OnEnvironmentEnd, this);
}

JsEmbeddedDevice::~JsEmbeddedDevice()
{
    if (is_open_)
    {
        CloseAndWait();
        napi_remove_env_cleanup_hook(env_, &OnEnvironmentEnd, this);
    }
}

void JsEmbeddedDevice::Finalize(Napi::BasicEnv basic_env)
{
    if (!is_open_ || is_closed_)
    {
        return;
    }
    CloseAndWait();
    Napi::Env env(basic_env);
    const auto process = env.Global().Get("process").As<Napi::Object>();
    process.Get("emitWarning")
        .As<Napi::Function>()
        .Call(process,
              {Napi::String::New(env, "A netverdict device was garbage-collected before it was closed, and is closed "
                                      "now. Call close() on it, or declare it with 'await using'."),
               Napi::String::New(env, "NetVerdictWarning")});
    if (env.IsExceptionPending())
    {
        env.GetAndClearPendingException();
    }
}

Napi::Value JsEmbeddedDevice::Take(const Napi::CallbackInfo &info)
{
    Napi::Env env = info.Env();
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

Napi::Value JsEmbeddedDevice::End(const Napi::CallbackInfo &info)
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

Napi::Value JsEmbeddedDevice::Write(const Napi::CallbackInfo &info)
{
    Napi::Env env = info.Env();
    const auto bytes = info[0].As<Napi::Uint8Array>();
    IoResult result{STATUS_FILE_CLOSED, 0};
    if (!closer_.joinable() && !is_closed_)
    {
        result = device_->Write(bytes.Data(), static_cast<uint32_t>(bytes.ElementLength()));
    }
    Napi::Object written = Napi::Object::New(env);
    written.Set("status", FromStatus(env, result.status));
    written.Set("information", Napi::Number::New(env, static_cast<double>(result.information)));
    return written;
}

Napi::Value JsEmbeddedDevice::Control(const Napi::CallbackInfo &info)
{
    Napi::Env env = info.Env();
    const auto input = info[1].As<Napi::Uint8Array>();
    std::vector<uint8_t> output(info[2].As<Napi::Number>().Uint32Value());
    IoResult result{STATUS_FILE_CLOSED, 0};
    if (!closer_.joinable() && !is_closed_)
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

void JsEmbeddedDevice::RefProcess(const Napi::CallbackInfo &info)
{
    queue_->Ref(info.Env());
}

void JsEmbeddedDevice::UnrefProcess(const Napi::CallbackInfo &info)
{
    queue_->Unref(info.Env());
}

Napi::Value JsEmbeddedDevice::Close(const Napi::CallbackInfo &info)
{
    auto closed = Napi::Promise::Deferred::New(info.Env());
    if (is_closed_)
    {
        closed.Resolve(info.Env().Undefined());
        return closed.Promise();
    }
    closing_.push_back(closed);
    if (!closer_.joinable())
    {
        Ref();
        queue_->Ref(info.Env());
        StartClosing();
    }
    return closed.Promise();
}

void JsEmbeddedDevice::StartClosing()
{
    closer_ = std::thread(
        [this]
        {
            network_->Stop();
            pump_->Stop();
            device_->CloseHandle();
            network_->Join();
            device_.reset();
            queue_->Post(
                [this](Napi::Env env)
                {
                    closer_.join();
                    is_closed_ = true;
                    napi_remove_env_cleanup_hook(env_, &OnEnvironmentEnd, this);
                    for (const Napi::Promise::Deferred &closed : closing_)
                    {
                        closed.Resolve(env.Undefined());
                    }
                    closing_.clear();
                    queue_->Close();
                    Unref();
                });
        });
}

void JsEmbeddedDevice::CloseAndWait()
{
    if (is_closed_)
    {
        return;
    }
    if (!closer_.joinable())
    {
        StartClosing();
    }
    closer_.join();
    is_closed_ = true;
    queue_->Close();
}

void JsEmbeddedDevice::OnEnvironmentEnd(void *self)
{
    static_cast<JsEmbeddedDevice *>(self)->CloseAndWait();
}

bool JsEmbeddedDevice::RequireOpen(Napi::Env env)
{
    if (closer_.joinable() || is_closed_)
    {
        Napi::Error::New(env, "The simulator is closed. Create another one.").ThrowAsJavaScriptException();
        return false;
    }
    return true;
}

template <JsEmbeddedDevice::NetworkMethod method> Napi::Value JsEmbeddedDevice::Call(const Napi::CallbackInfo &info)
{
    if (!RequireOpen(info.Env()))
    {
        return info.Env().Undefined();
    }
    sim::Machine::Scope scope(device_->machine());
    return (network_.get()->*method)(info);
}

template <JsEmbeddedDevice::NetworkAction action> void JsEmbeddedDevice::Do(const Napi::CallbackInfo &info)
{
    if (RequireOpen(info.Env()))
    {
        sim::Machine::Scope scope(device_->machine());
        (network_.get()->*action)(info);
    }
}

void JsEmbeddedDevice::Reauthorize(const Napi::CallbackInfo &info)
{
    if (RequireOpen(info.Env()))
    {
        sim::Machine::Scope scope(device_->machine());
        network_->Reauthorize();
    }
}

Napi::Value JsEmbeddedDevice::Counters(const Napi::CallbackInfo &info)
{
    return RequireOpen(info.Env()) ? network_->Counters(info.Env()) : info.Env().Undefined();
}

Napi::Value JsEmbeddedDevice::PoolBytes(const Napi::CallbackInfo &info)
{
    return RequireOpen(info.Env()) ? network_->PoolBytes(info.Env()) : info.Env().Undefined();
}

} // namespace netverdict
