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
    device_ = computer.OpenDevice(info.Env(), *this);
    computer_ = &computer;
    if (EmbeddedDevice::wrapper != nullptr)
    {
        wrapped_ = EmbeddedDevice::wrapper(*device_);
    }
    js_ = std::make_unique<JsDevice>(
        wrapped_ ? *wrapped_ : *device_, info[1].As<Napi::Object>(), info[2].As<Napi::Function>(),
        [this]
        {
            wrapped_.reset();
            device_.reset();
        },
        [this] { std::exchange(computer_, nullptr)->DeviceClosed(); });
    self.Set("computer", computer_object);
    computer_object.Set("device", self);
}

void JsEmbeddedDevice::Undo()
{
    js_.reset();
    wrapped_.reset();
    device_.reset();
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
