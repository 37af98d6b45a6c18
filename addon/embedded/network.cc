#include "network.h"

#include <chrono>
#include <exception>
#include <string>
#include <utility>

#include "network_values.h"
#include "nt/clock.h"
#include "nt/fault_injection.h"
#include "nt/pool.h"
#include "sources/flow_load.h"
#include "sources/replay.h"

namespace netverdict
{

Network::Network(sim::Machine &machine) : machine_(machine) {}

Napi::Value Network::Connect(const Napi::CallbackInfo &info)
{
    const sim::net::FlowId flow = machine_.net().Connect(ToFlowSpec(info[0].As<Napi::Object>()), OutcomeOf(info[1]));
    return Napi::Number::New(info.Env(), static_cast<double>(flow));
}

Napi::Value Network::Accept(const Napi::CallbackInfo &info)
{
    const sim::net::FlowId flow = machine_.net().Accept(ToFlowSpec(info[0].As<Napi::Object>()), OutcomeOf(info[1]));
    return Napi::Number::New(info.Env(), static_cast<double>(flow));
}

Napi::Value Network::Listen(const Napi::CallbackInfo &info)
{
    const uint64_t listener = machine_.net().Listen(ToFlowSpec(info[0].As<Napi::Object>()));
    return Napi::Number::New(info.Env(), static_cast<double>(listener));
}

void Network::CloseListener(const Napi::CallbackInfo &info)
{
    machine_.net().CloseListener(ToUint64(info[0]));
}

void Network::Send(const Napi::CallbackInfo &info)
{
    const std::vector<uint8_t> bytes = ToBytes(info[1]);
    machine_.net().Send(ToUint64(info[0]), bytes.data(), bytes.size(), OutcomeOf(info[2]));
}

void Network::Receive(const Napi::CallbackInfo &info)
{
    const std::vector<uint8_t> bytes = ToBytes(info[1]);
    machine_.net().Receive(ToUint64(info[0]), bytes.data(), bytes.size(), OutcomeOf(info[2]));
}

void Network::CloseFlow(const Napi::CallbackInfo &info)
{
    machine_.net().Close(ToUint64(info[0]));
}

void Network::Packet(const Napi::CallbackInfo &info)
{
    const auto direction = static_cast<sim::net::Direction>(info[0].As<Napi::Number>().Uint32Value());
    const std::vector<uint8_t> bytes = ToBytes(info[1]);
    machine_.net().Packet(direction, bytes.data(), bytes.size(), OutcomeOf(info[2]));
}

void Network::Reauthorize(const Napi::CallbackInfo &)
{
    machine_.net().Reauthorize();
}

void Network::Advance(const Napi::CallbackInfo &info)
{
    const double milliseconds = info[0].As<Napi::Number>().DoubleValue();
    machine_.clock().Advance(
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double, std::milli>(milliseconds)));
}

Napi::Value Network::Counters(const Napi::CallbackInfo &info)
{
    return FromCounters(info.Env(), machine_.net().counters());
}

Napi::Value Network::PoolBytes(const Napi::CallbackInfo &info)
{
    return Napi::Number::New(info.Env(), static_cast<double>(machine_.pool().bytes()));
}

void Network::InjectFaults(const Napi::CallbackInfo &info)
{
    const uint32_t one_in = info[0].As<Napi::Number>().Uint32Value();

    if (one_in == 0)
    {
        machine_.faults().Stop();
    }
    else
    {
        machine_.faults().FailOneIn(one_in);
    }
}

Napi::Value Network::InjectedFaults(const Napi::CallbackInfo &info)
{
    return Napi::Number::New(info.Env(), static_cast<double>(machine_.faults().failures()));
}

void Network::OnWire(const Napi::CallbackInfo &info)
{
    machine_.net().SetWire({});
    Forget(std::exchange(wire_, 0));
    if (!info[0].IsFunction())
    {
        return;
    }
    wire_ = Remember(info[0]);
    machine_.net().SetWire(
        [this, callback = wire_](sim::net::Direction direction, const uint8_t *packet, size_t length)
        {
            queue_->Post(
                [this, callback, direction, bytes = std::vector<uint8_t>(packet, packet + length)](Napi::Env env)
                {
                    const auto found = callbacks_.find(callback);
                    if (found != callbacks_.end())
                    {
                        CallIntoApplication(env, found->second,
                                            {Napi::Number::New(env, static_cast<int>(direction)),
                                             FromBytes(env, bytes.data(), bytes.size())});
                    }
                });
        });
}

Napi::Value Network::Replay(const Napi::CallbackInfo &info)
{
    Napi::Env env = info.Env();
    auto replay = std::make_shared<sim::sources::Replay>(machine_, ToReplayOptions(info[0].As<Napi::Object>()));
    auto done = std::make_shared<Napi::Promise::Deferred>(env);
    const uint64_t progress = Remember(info[1]);
    auto source = std::make_shared<Source>();
    Start(
        source, [replay] { replay->Stop(); },
        [this, replay, done, progress]
        {
            std::string failure;
            try
            {
                replay->Run(
                    [this, progress](const sim::sources::ReplayProgress &reached)
                    {
                        queue_->Post(
                            [this, progress, reached](Napi::Env env)
                            {
                                const auto found = callbacks_.find(progress);
                                if (found != callbacks_.end())
                                {
                                    CallIntoApplication(env, found->second, {FromProgress(env, reached)});
                                }
                            });
                    });
            }
            catch (const std::exception &error)
            {
                failure = error.what();
            }
            queue_->Post(
                [this, replay, done, progress, failure](Napi::Env env)
                {
                    Forget(progress);
                    if (failure.empty())
                    {
                        done->Resolve(FromReplaySummary(env, replay->summary()));
                    }
                    else
                    {
                        done->Reject(Napi::Error::New(env, failure).Value());
                    }
                });
        });
    Napi::Object object = Napi::Object::New(env);
    object.Set("done", done->Promise());
    object.Set("stop", Napi::Function::New(env, [replay](const Napi::CallbackInfo &) { replay->Stop(); }));
    return object;
}

Napi::Value Network::Load(const Napi::CallbackInfo &info)
{
    auto load = std::make_shared<sim::sources::FlowLoad>(machine_, ToFlowLoadOptions(info[0].As<Napi::Object>()));
    auto done = std::make_shared<Napi::Promise::Deferred>(info.Env());
    auto source = std::make_shared<Source>();
    Start(
        source, [load] { load->Stop(); },
        [this, load, done]
        {
            const sim::sources::FlowLoadResult result = load->Run();
            queue_->Post([done, result](Napi::Env env) { done->Resolve(FromLoadResult(env, result)); });
        });
    return done->Promise();
}

void Network::Start(std::shared_ptr<Source> source, std::function<void()> stop, std::function<void()> run)
{
    source->stop = std::move(stop);
    source->thread = std::thread(
        [this, run = std::move(run)]
        {
            sim::Machine::Scope scope(machine_);
            run();
        });
    sources_.push_back(std::move(source));
}

void Network::DropWhatIsAwaited()
{
    queue_->Post(
        [this](Napi::Env env)
        {
            Forget(std::exchange(wire_, 0));
            while (!callbacks_.empty())
            {
                TellOutcome(env, callbacks_.begin()->first, {sim::net::OutcomeKind::kDropped, {}});
            }
        });
}

void Network::Stop()
{
    for (const auto &source : sources_)
    {
        source->stop();
    }
}

void Network::Join()
{
    for (const auto &source : sources_)
    {
        source->thread.join();
    }
    sources_.clear();
}

sim::net::OutcomeCallback Network::OutcomeOf(const Napi::Value &callback)
{
    if (!callback.IsFunction())
    {
        return {};
    }
    return [this, id = Remember(callback)](const sim::net::Outcome &outcome)
    { queue_->Post([this, id, outcome](Napi::Env env) { TellOutcome(env, id, outcome); }); };
}

void Network::TellOutcome(Napi::Env env, uint64_t callback, const sim::net::Outcome &outcome)
{
    const auto found = callbacks_.find(callback);
    if (found == callbacks_.end())
    {
        return;
    }
    const Napi::FunctionReference function = std::move(found->second);
    callbacks_.erase(found);
    CallIntoApplication(env, function, {FromOutcome(env, outcome)});
}

uint64_t Network::Remember(const Napi::Value &callback)
{
    const uint64_t id = next_callback_++;
    callbacks_.emplace(id, Napi::Persistent(callback.As<Napi::Function>()));
    return id;
}

void Network::Forget(uint64_t callback)
{
    callbacks_.erase(callback);
}

} // namespace netverdict
