// The simulated network for JavaScript: flows, raw packets, captures and load, and their outcomes.
//
// Concurrency: methods run on the JavaScript thread, except for those that say otherwise.
// Outcomes come on any thread and reach JavaScript through the queue.
// Each replay and each load has its own thread. No lock is held during a callback.
#pragma once

#include <napi.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "../js_queue.h"
#include "machine.h"
#include "net/stack.h"

namespace netverdict
{

class Network
{
  public:
    // Outcomes reach JavaScript through `queue`.
    // `hold(true)` is called when the first outcome, replay or load is awaited, `hold(false)` after the last one.
    Network(sim::Machine &machine, JsQueue &queue, std::function<void(bool)> hold);

    Network(const Network &) = delete;
    Network &operator=(const Network &) = delete;

    Napi::Value Connect(const Napi::CallbackInfo &info);
    Napi::Value Accept(const Napi::CallbackInfo &info);
    Napi::Value Listen(const Napi::CallbackInfo &info);
    void CloseListener(const Napi::CallbackInfo &info);
    void Send(const Napi::CallbackInfo &info);
    void Receive(const Napi::CallbackInfo &info);
    void CloseFlow(const Napi::CallbackInfo &info);
    void Packet(const Napi::CallbackInfo &info);
    void AcceptSecured(const Napi::CallbackInfo &info);
    void Reauthorize(const Napi::CallbackInfo &info);
    Napi::Value Replay(const Napi::CallbackInfo &info);
    void StopReplay(const Napi::CallbackInfo &info);
    Napi::Value Load(const Napi::CallbackInfo &info);
    void Advance(const Napi::CallbackInfo &info);
    Napi::Value Counters(const Napi::CallbackInfo &info);
    Napi::Value PoolBytes(const Napi::CallbackInfo &info);
    void InjectFaults(const Napi::CallbackInfo &info);
    void HinderEngine(const Napi::CallbackInfo &info);
    Napi::Value FilteredLayers(const Napi::CallbackInfo &info);
    Napi::Value InjectedFaults(const Napi::CallbackInfo &info);
    void OnWire(const Napi::CallbackInfo &info);

    // The network is gone. The outcomes that are still awaited become kDropped. Any thread may call it.
    void DropWhatIsAwaited();

    // Stop ends all replays and loads, Join waits for them. Any thread may call these.
    void Stop();
    void Join();

  private:
    // A number stands for an outcome's callback, because only the JavaScript thread may touch the callback.
    sim::net::OutcomeCallback OutcomeOf(const Napi::Value &callback);
    void ReportOutcome(Napi::Env env, uint64_t callback, const sim::net::Outcome &outcome);
    uint64_t Remember(const Napi::Value &callback);
    void Forget(uint64_t callback);

    struct Source
    {
        std::function<void()> stop;
        std::thread thread;
    };
    using Settle = std::function<void(Napi::Env, const std::exception_ptr &)>;

    // Does `work` on a new thread, then `settle` on the JavaScript thread. Returns the source's number.
    // `settle` gets the exception of `work`, if it threw one.
    uint64_t Start(std::function<void()> stop, std::function<void()> work, Settle settle);
    void Finish(uint64_t source);

    void BeginAwaiting();
    void EndAwaiting();

    sim::Machine &machine_;
    JsQueue &queue_;
    const std::function<void(bool)> hold_;
    uint64_t next_callback_ = 1;
    uint64_t next_source_ = 1;
    uint64_t awaited_ = 0;
    uint64_t wire_ = 0;
    std::unordered_map<uint64_t, Napi::FunctionReference> callbacks_;

    std::mutex mutex_;
    std::unordered_map<uint64_t, std::shared_ptr<Source>> sources_; // under mutex_
};

} // namespace netverdict
