// The simulated network for JavaScript: flows, raw packets, captures and load, with their outcomes.
//
// Concurrency: everything on the JavaScript thread but Stop and Join. Outcomes come on any thread and reach JavaScript
// through the queue. Each replay and each load has a thread of its own.
#pragma once

#include <napi.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "../js_queue.h"
#include "machine.h"
#include "net/stack.h"

namespace netverdict
{

class Network
{
  public:
    explicit Network(sim::Machine &machine);

    Network(const Network &) = delete;
    Network &operator=(const Network &) = delete;

    // Before anything else: outcomes reach JavaScript through it.
    void TellThrough(JsQueue &queue) { queue_ = &queue; }

    Napi::Value Connect(const Napi::CallbackInfo &info);
    Napi::Value Accept(const Napi::CallbackInfo &info);
    Napi::Value Listen(const Napi::CallbackInfo &info);
    void CloseListener(const Napi::CallbackInfo &info);
    void Send(const Napi::CallbackInfo &info);
    void Receive(const Napi::CallbackInfo &info);
    void CloseFlow(const Napi::CallbackInfo &info);
    void Packet(const Napi::CallbackInfo &info);
    void Reauthorize(const Napi::CallbackInfo &info);
    Napi::Value Replay(const Napi::CallbackInfo &info);
    Napi::Value Load(const Napi::CallbackInfo &info);
    void Advance(const Napi::CallbackInfo &info);
    Napi::Value Counters(const Napi::CallbackInfo &info);
    Napi::Value PoolBytes(const Napi::CallbackInfo &info);
    void InjectFaults(const Napi::CallbackInfo &info);
    Napi::Value InjectedFaults(const Napi::CallbackInfo &info);
    void OnWire(const Napi::CallbackInfo &info);

    // The network is gone: what is still awaited of it was dropped. Any thread.
    void DropWhatIsAwaited();

    // Tells all replays and loads to end, and waits for them. Any thread, once each.
    void Stop();
    void Join();

  private:
    // An outcome's callback is known by a number, because it may only be touched on the JavaScript thread.
    sim::net::OutcomeCallback OutcomeOf(const Napi::Value &callback);
    void TellOutcome(Napi::Env env, uint64_t callback, const sim::net::Outcome &outcome);
    uint64_t Remember(const Napi::Value &callback);
    void Forget(uint64_t callback);

    struct Source
    {
        std::function<void()> stop;
        std::thread thread;
    };
    void Start(std::shared_ptr<Source> source, std::function<void()> stop, std::function<void()> run);

    sim::Machine &machine_;
    JsQueue *queue_ = nullptr;
    uint64_t next_callback_ = 1;
    uint64_t wire_ = 0;
    std::unordered_map<uint64_t, Napi::FunctionReference> callbacks_;
    std::vector<std::shared_ptr<Source>> sources_;
};

} // namespace netverdict
