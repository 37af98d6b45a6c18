#include "js_embedded_computer.h"

#include <utility>

#include "../guard.h"
#include "js_embedded_device.h"

namespace netverdict
{

Napi::Function JsEmbeddedComputer::Define(Napi::Env env)
{
    using Self = JsEmbeddedComputer;
    return DefineClass(env, "EmbeddedComputer",
                       {
                           InstanceMethod<&Self::Close>("close"),
                           InstanceMethod<&Self::OfNetwork<&Network::Connect>>("connect"),
                           InstanceMethod<&Self::OfNetwork<&Network::Accept>>("accept"),
                           InstanceMethod<&Self::OfNetwork<&Network::Listen>>("listen"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::CloseListener>>("closeListener"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::Send>>("send"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::Receive>>("receive"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::CloseFlow>>("closeFlow"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::Packet>>("packet"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::AcceptSecured>>("acceptSecured"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::Reauthorize>>("reauthorize"),
                           InstanceMethod<&Self::OfNetwork<&Network::Replay>>("replay"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::StopReplay>>("stopReplay"),
                           InstanceMethod<&Self::OfNetwork<&Network::Load>>("load"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::Advance>>("advance"),
                           InstanceMethod<&Self::OfNetwork<&Network::Counters>>("counters"),
                           InstanceMethod<&Self::OfNetwork<&Network::PoolBytes>>("poolBytes"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::InjectFaults>>("injectFaults"),
                           InstanceMethod<&Self::OfNetwork<&Network::InjectedFaults>>("injectedFaults"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::HinderEngine>>("hinderEngine"),
                           InstanceMethod<&Self::OfNetwork<&Network::FilteredLayers>>("filteredLayers"),
                           InstanceMethod<&Self::DoOnNetwork<&Network::OnWire>>("onWire"),
                       });
}

JsEmbeddedComputer::JsEmbeddedComputer(const Napi::CallbackInfo &info) : ObjectWrap(info)
{
    GuardConstruction(info.Env(), [&] { Start(info); }, [this] { Undo(); });
}

void JsEmbeddedComputer::Start(const Napi::CallbackInfo &info)
{
    const auto options = info[0].As<Napi::Object>();
    EmbeddedComputerOptions computer;
    computer.virtual_clock = options.Get("virtualClock").ToBoolean();
    computer.verifier = options.Get("verifier").ToBoolean();
    const NTSTATUS status = EmbeddedComputer::Start(computer, &computer_);
    if (!NT_SUCCESS(status))
    {
        throw StatusError(info.Env(), "The driver's core could not be started", status);
    }
    queue_.emplace(info.Env());
    queue_->Unref(info.Env());
    network_.emplace(computer_->machine(), *queue_, [this](bool is_awaited) { Hold(is_awaited); });
    closer_.emplace(info.Env(), *queue_, [this] { End(); }, [] {});
}

void JsEmbeddedComputer::Undo()
{
    network_.reset();
    queue_.reset();
    computer_.reset();
}

// Runs on any thread.
void JsEmbeddedComputer::End()
{
    network_->Stop();
    if (device_closed_.valid())
    {
        device_closed_.wait();
    }
    network_->Join();
    computer_.reset();
    network_->DropWhatIsAwaited();
}

void JsEmbeddedComputer::Finalize(Napi::BasicEnv env)
{
    if (client_ != nullptr)
    {
        client_->Finalize(env);
    }
    if (closer_ && closer_->CloseAndWait())
    {
        queue_->RunLast(Napi::Env(env));
    }
}

Napi::Value JsEmbeddedComputer::Close(const Napi::CallbackInfo &info)
{
    return Guard(info.Env(),
                 [&]
                 {
                     if (client_ != nullptr)
                     {
                         client_->StartClosing();
                     }
                     return closer_->Close(info);
                 });
}

std::shared_ptr<EmbeddedDevice> JsEmbeddedComputer::OpenDevice(Napi::Env env, JsEmbeddedDevice &client,
                                                               std::future<void> closed)
{
    RequireOpen(env);
    std::shared_ptr<EmbeddedDevice> device;
    const NTSTATUS status = EmbeddedDevice::Open(computer_, &device);
    if (!NT_SUCCESS(status))
    {
        throw StatusError(env, "The device could not be opened", status);
    }
    device_closed_ = std::move(closed);
    client_ = &client;
    RefOrUnrefProcess();
    return device;
}

void JsEmbeddedComputer::DeviceClosed()
{
    client_ = nullptr;
    RefOrUnrefProcess();
}

void JsEmbeddedComputer::Hold(bool is_awaited)
{
    is_awaited_ = is_awaited;
    RefOrUnrefProcess();
}

// While a device is open, the device decides whether the process stays alive: only its client decides connections.
void JsEmbeddedComputer::RefOrUnrefProcess()
{
    if (!closer_->is_open())
    {
        return;
    }
    if (is_awaited_ && client_ == nullptr)
    {
        queue_->Ref(Env());
    }
    else
    {
        queue_->Unref(Env());
    }
}

void JsEmbeddedComputer::RequireOpen(Napi::Env env)
{
    if (!closer_->is_open())
    {
        throw Napi::Error::New(env, "The simulator is closed. Create another one.");
    }
}

template <auto method> Napi::Value JsEmbeddedComputer::OfNetwork(const Napi::CallbackInfo &info)
{
    RequireOpen(info.Env());
    sim::Machine::Scope scope(computer_->machine());
    return Guard(info.Env(), [&] { return (*network_.*method)(info); });
}

template <auto action> void JsEmbeddedComputer::DoOnNetwork(const Napi::CallbackInfo &info)
{
    RequireOpen(info.Env());
    sim::Machine::Scope scope(computer_->machine());
    Guard(info.Env(), [&] { (*network_.*action)(info); });
}

} // namespace netverdict
