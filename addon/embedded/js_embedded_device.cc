#include "js_embedded_device.h"

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
                           InstanceMethod<&Self::OfNetwork<&Network::Connect>>("connect"),
                           InstanceMethod<&Self::OfNetwork<&Network::Accept>>("accept"),
                           InstanceMethod<&Self::OfNetwork<&Network::Listen>>("listen"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::CloseListener>>("closeListener"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::Send>>("send"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::Receive>>("receive"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::CloseFlow>>("closeFlow"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::Packet>>("packet"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::Reauthorize>>("reauthorize"),
                           InstanceMethod<&Self::OfNetwork<&Network::Replay>>("replay"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::StopReplay>>("stopReplay"),
                           InstanceMethod<&Self::OfNetwork<&Network::Load>>("load"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::Advance>>("advance"),
                           InstanceMethod<&Self::OfNetwork<&Network::Counters>>("counters"),
                           InstanceMethod<&Self::OfNetwork<&Network::PoolBytes>>("poolBytes"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::InjectFaults>>("injectFaults"),
                           InstanceMethod<&Self::OfNetwork<&Network::InjectedFaults>>("injectedFaults"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::OnWire>>("onWire"),
                       });
}

JsEmbeddedDevice::JsEmbeddedDevice(const Napi::CallbackInfo &info) : ObjectWrap(info)
{
    GuardConstruction(
        info.Env(), [&] { Open(info); },
        [this]
        {
            js_.reset();
            network_.reset();
            wrapped_.reset();
            device_.reset();
        });
}

void JsEmbeddedDevice::Open(const Napi::CallbackInfo &info)
{
    const auto options = info[0].As<Napi::Object>();
    EmbeddedDeviceOptions device;
    device.virtual_clock = options.Get("virtualClock").ToBoolean();
    device.verifier = options.Get("verifier").ToBoolean();
    const NTSTATUS status = EmbeddedDevice::Open(device, &device_);
    if (!NT_SUCCESS(status))
    {
        throw StatusError(info.Env(), "The driver's core could not be started", status);
    }
    if (EmbeddedDevice::wrapper != nullptr)
    {
        wrapped_ = EmbeddedDevice::wrapper(*device_);
    }
    network_ = std::make_unique<Network>(device_->machine(), [this](bool is_held) { is_held ? Ref() : Unref(); });
    js_ = std::make_unique<JsDevice>(wrapped_ ? *wrapped_ : *device_, options, info[1].As<Napi::Function>(),
                                     [this]
                                     {
                                         network_->Stop();
                                         wrapped_.reset();
                                         device_->CloseHandle();
                                         network_->Join();
                                         device_.reset();
                                         network_->DropWhatIsAwaited();
                                     });
    network_->TellThrough(js_->queue());
}

void JsEmbeddedDevice::Finalize(Napi::BasicEnv env)
{
    if (js_)
    {
        js_->Finalize(env);
    }
}

void JsEmbeddedDevice::RequireOpen(Napi::Env env)
{
    if (!js_->is_open())
    {
        throw Napi::Error::New(env, "The simulator is closed. Create another one.");
    }
}

template <auto method> Napi::Value JsEmbeddedDevice::OfNetwork(const Napi::CallbackInfo &info)
{
    RequireOpen(info.Env());
    sim::Machine::Scope scope(device_->machine());
    return Guard(info.Env(), [&] { return (network_.get()->*method)(info); });
}

template <auto action> void JsEmbeddedDevice::DoOnNetwork(const Napi::CallbackInfo &info)
{
    RequireOpen(info.Env());
    sim::Machine::Scope scope(device_->machine());
    Guard(info.Env(), [&] { (network_.get()->*action)(info); });
}

} // namespace netverdict
