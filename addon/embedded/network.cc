#include "network.h"

#include <chrono>
#include <new>
#include <utility>

#include "../status.h"
#include "network_values.h"
#include "nt/clock.h"
#include "nt/fault_injection.h"
#include "nt/pool.h"
#include "sources/flow_load.h"
#include "sources/replay.h"
#include "wfp/hindrance.h"

namespace netverdict
{

namespace
{

// Converts `failure` to the value that rejects a promise.
Napi::Value FromFailure(Napi::Env env, const std::exception_ptr &failure)
{
    try
    {
        std::rethrow_exception(failure);
    }
    catch (const std::bad_alloc &error)
    {
        return StatusError(env, error.what(), kStatusInsufficientResources).Value();
    }
    catch (const std::exception &error)
    {
        return Napi::Error::New(env, error.what()).Value();
    }
}

} // namespace

Network::Network(sim::Machine &machine, JsQueue &queue, std::function<void(bool)> hold)
    : machine_(machine), queue_(queue), hold_(std::move(hold))
{
}

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
    const std::vector<uint8_t> bytes = ToBytes(info[1]);
    machine_.net().Packet(ToPacketWay(info[0]), bytes.data(), bytes.size(), OutcomeOf(info[2]), ToLink(info[3]));
}

void Network::AcceptSecured(const Napi::CallbackInfo &)
{
    machine_.net().AcceptSecured();
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

void Network::HinderEngine(const Napi::CallbackInfo &info)
{
    const auto hindrance = static_cast<sim::wfp::Hindrance>(info[0].As<Napi::Number>().Uint32Value());

    sim::wfp::Hinder(machine_.wfp(), hindrance, info[1].As<Napi::Number>().Int32Value());
}

Napi::Value Network::FilteredLayers(const Napi::CallbackInfo &info)
{
    return Napi::Number::New(info.Env(), machine_.wfp().filtered_layers());
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
            queue_.Post(
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
    const uint64_t callback = Remember(info[1]);
    const auto report = [this, callback](const sim::sources::ReplayProgress &reached)
    {
        queue_.Post(
            [this, callback, reached](Napi::Env env)
            {
                const auto found = callbacks_.find(callback);
                if (found != callbacks_.end())
                {
                    CallIntoApplication(env, found->second, {FromProgress(env, reached)});
                }
            });
    };
    const auto settle = [this, replay, done, callback](Napi::Env env, const std::exception_ptr &failure)
    {
        Forget(callback);
        if (failure)
        {
            done->Reject(FromFailure(env, failure));
        }
        else
        {
            done->Resolve(FromReplaySummary(env, replay->summary()));
        }
    };
    uint64_t source = 0;
    try
    {
        source = Start([replay] { replay->Stop(); }, [replay, report] { replay->Run(report); }, settle);
    }
    catch (...)
    {
        Forget(callback);
        throw;
    }
    Napi::Object object = Napi::Object::New(env);
    object.Set("id", Napi::Number::New(env, static_cast<double>(source)));
    object.Set("done", done->Promise());
    return object;
}

void Network::StopReplay(const Napi::CallbackInfo &info)
{
    std::shared_ptr<Source> source;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        const auto found = sources_.find(ToUint64(info[0]));
        if (found == sources_.end())
        {
            return;
        }
        source = found->second;
    }
    source->stop();
}

Napi::Value Network::Load(const Napi::CallbackInfo &info)
{
    auto load = std::make_shared<sim::sources::FlowLoad>(machine_, ToFlowLoadOptions(info[0].As<Napi::Object>()));
    auto result = std::make_shared<sim::sources::FlowLoadResult>();
    auto done = std::make_shared<Napi::Promise::Deferred>(info.Env());
    Start([load] { load->Stop(); }, [load, result] { *result = load->Run(); },
          [result, done](Napi::Env env, const std::exception_ptr &failure)
          {
              if (failure)
              {
                  done->Reject(FromFailure(env, failure));
              }
              else
              {
                  done->Resolve(FromLoadResult(env, *result));
              }
          });
    return done->Promise();
}

uint64_t Network::Start(std::function<void()> stop, std::function<void()> work, Settle settle)
{
    const uint64_t id = next_source_++;
    auto source = std::make_shared<Source>();
    source->stop = std::move(stop);
    source->thread = std::thread(
        [this, id, work = std::move(work), settle = std::move(settle)]
        {
            std::exception_ptr failure;
            try
            {
                sim::Machine::Scope scope(machine_);
                work();
            }
            catch (...)
            {
                failure = std::current_exception();
            }
            queue_.Post(
                [this, id, settle, failure](Napi::Env env)
                {
                    Finish(id);
                    settle(env, failure);
                });
        });
    BeginAwaiting();
    std::lock_guard<std::mutex> lock(mutex_);
    sources_.emplace(id, std::move(source));
    return id;
}

void Network::Finish(uint64_t source)
{
    std::shared_ptr<Source> finished; // nullptr: the network ends, and Join has taken it
    {
        std::lock_guard<std::mutex> lock(mutex_);
        const auto found = sources_.find(source);
        if (found != sources_.end())
        {
            finished = std::move(found->second);
            sources_.erase(found);
        }
    }
    if (finished)
    {
        finished->thread.join();
    }
    EndAwaiting();
}

void Network::BeginAwaiting()
{
    if (awaited_++ == 0)
    {
        hold_(true);
    }
}

void Network::EndAwaiting()
{
    if (--awaited_ == 0)
    {
        hold_(false);
    }
}

void Network::DropWhatIsAwaited()
{
    queue_.Post(
        [this](Napi::Env env)
        {
            Forget(std::exchange(wire_, 0));
            while (!callbacks_.empty())
            {
                ReportOutcome(env, callbacks_.begin()->first, {sim::net::OutcomeKind::kDropped, {}});
            }
        });
}

void Network::Stop()
{
    std::unordered_map<uint64_t, std::shared_ptr<Source>> sources;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        sources = sources_;
    }
    for (const auto &[id, source] : sources)
    {
        source->stop();
    }
}

void Network::Join()
{
    std::unordered_map<uint64_t, std::shared_ptr<Source>> sources;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        sources.swap(sources_);
    }
    for (const auto &[id, source] : sources)
    {
        source->thread.join();
    }
}

sim::net::OutcomeCallback Network::OutcomeOf(const Napi::Value &callback)
{
    if (!callback.IsFunction())
    {
        return {};
    }
    BeginAwaiting();
    return [this, id = Remember(callback)](const sim::net::Outcome &outcome)
    { queue_.Post([this, id, outcome](Napi::Env env) { ReportOutcome(env, id, outcome); }); };
}

void Network::ReportOutcome(Napi::Env env, uint64_t callback, const sim::net::Outcome &outcome)
{
    const auto found = callbacks_.find(callback);
    if (found == callbacks_.end())
    {
        return;
    }
    const Napi::FunctionReference function = std::move(found->second);
    callbacks_.erase(found);
    EndAwaiting();
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
