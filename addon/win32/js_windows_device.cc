#include "js_windows_device.h"

#include <utility>

namespace netverdict
{

Napi::Function JsWindowsDevice::Define(Napi::Env env)
{
    using Self = JsWindowsDevice;
    return DefineClass(env, "WindowsDevice",
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

JsWindowsDevice::JsWindowsDevice(const Napi::CallbackInfo &info) : ObjectWrap(info)
{
    GuardConstruction(info.Env(), [&] { Open(info); }, [this] { js_.reset(); });
}

void JsWindowsDevice::Open(const Napi::CallbackInfo &info)
{
    const auto options = info[0].As<Napi::Object>();
    std::unique_ptr<Win32Device> device;
    const int32_t status = Win32Device::Open(options.Get("path").As<Napi::String>().Utf16Value(), &device);
    if (status < 0)
    {
        throw StatusError(info.Env(), "The device could not be opened", status);
    }
    js_ = std::make_unique<JsDevice>(std::move(device), options, info[1].As<Napi::Function>());
}

void JsWindowsDevice::Finalize(Napi::BasicEnv env)
{
    if (js_)
    {
        js_->Finalize(env);
    }
}

} // namespace netverdict
