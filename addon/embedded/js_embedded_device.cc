#include "js_embedded_device.h"

#include <utility>

#include "js_embedded_computer.h"

namespace netverdict
{

Napi::Function JsEmbeddedDevice::Define(Napi::Env env)
{
    using Self = JsEmbeddedDevice;
    return DefineClass(env, "EmbeddedDevice",
                       {
                           InstanceMethod<&Self::DoOnDevice<&JsDevice::Start>>("start"),
                           InstanceMethod<&Self::OfDevice<&JsDevice::Take>>("take"),
                           InstanceAccessor<&Self::OfDevice<&JsDevice::End>>("end"),
                           InstanceMethod<&Self::OfDevice<&JsDevice::Write>>("write"),
                           InstanceMethod<&Self::OfDevice<&JsDevice::Control>>("control"),
                           InstanceMethod<&Self::DoOnDevice<&JsDevice::RefProcess>>("ref"),
                           InstanceMethod<&Self::DoOnDevice<&JsDevice::UnrefProcess>>("unref"),
                           InstanceMethod<&Self::OfDevice<&JsDevice::Close>>("close"),
                       });
}

JsEmbeddedDevice::JsEmbeddedDevice(const Napi::CallbackInfo &info) : ObjectWrap(info)
{
    GuardConstruction(info.Env(), [&] { Open(info); }, [this] { Undo(); });
}

void JsEmbeddedDevice::Open(const Napi::CallbackInfo &info)
{
    auto self = info.This().As<Napi::Object>();
    auto computer_object = info[0].As<Napi::Object>();
    JsEmbeddedComputer &computer = *JsEmbeddedComputer::Unwrap(computer_object);
    std::shared_ptr<Device> device = OpenOn(info.Env(), computer);
    computer_ = &computer;
    js_ = std::make_unique<JsDevice>(
        std::move(device), info[1].As<Napi::Object>(), info[2].As<Napi::Function>(), [this] { closed_.set_value(); },
        [this] { std::exchange(computer_, nullptr)->DeviceClosed(); });
    self.Set("computer", computer_object);
    computer_object.Set("device", self);
}

std::shared_ptr<Device> JsEmbeddedDevice::OpenOn(Napi::Env env, JsEmbeddedComputer &computer)
{
    std::shared_ptr<EmbeddedDevice> device = computer.OpenDevice(env, *this, closed_.get_future());
    return EmbeddedDevice::wrapper != nullptr ? EmbeddedDevice::wrapper(std::move(device)) : std::move(device);
}

void JsEmbeddedDevice::Undo()
{
    js_.reset();
    closed_ = {}; // the computer waits no longer
    if (computer_ != nullptr)
    {
        std::exchange(computer_, nullptr)->DeviceClosed();
    }
}

void JsEmbeddedDevice::Finalize(Napi::BasicEnv env)
{
    if (js_)
    {
        js_->Finalize(env);
    }
}

} // namespace netverdict
