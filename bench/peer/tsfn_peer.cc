// The peer of the event stream: the usual way in which an addon hands events to JavaScript. A native thread makes one
// ThreadSafeFunction call for each event, and each call makes one object with its fields set.
#include <napi.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace
{

using Clock = std::chrono::steady_clock;

struct Connection
{
    uint64_t id;
    uint64_t process_id;
    uint16_t local_port;
    uint16_t remote_port;
    uint8_t type;
};

Napi::Object ToObject(Napi::Env env, const Connection &connection)
{
    Napi::Object object = Napi::Object::New(env);
    object.Set("type", Napi::Number::New(env, connection.type));
    object.Set("id", Napi::BigInt::New(env, connection.id));
    object.Set("localPort", Napi::Number::New(env, connection.local_port));
    object.Set("remotePort", Napi::Number::New(env, connection.remote_port));
    object.Set("processId", Napi::Number::New(env, static_cast<double>(connection.process_id)));
    return object;
}

// emitEvents(count, onEvent): calls onEvent(object) count times, with at most 65536 calls waiting.
void EmitEvents(const Napi::CallbackInfo &info)
{
    const uint32_t count = info[0].As<Napi::Number>().Uint32Value();
    auto on_event = Napi::ThreadSafeFunction::New(info.Env(), info[1].As<Napi::Function>(), "events", 65536, 1);
    std::thread(
        [count, on_event]() mutable
        {
            for (uint32_t index = 1; index <= count; ++index)
            {
                auto connection = std::make_unique<Connection>(
                    Connection{index, 1000 + index % 64, static_cast<uint16_t>(1024 + index % 60000), 443, 1});
                on_event.BlockingCall(connection.release(),
                                      [](Napi::Env env, Napi::Function callback, Connection *raw)
                                      {
                                          std::unique_ptr<Connection> owned(raw);
                                          callback.Call({ToObject(env, *owned)});
                                      });
            }
            on_event.Release();
        })
        .detach();
}

// What a native thread waits for, one answer at a time.
class Answer
{
  public:
    void Give()
    {
        std::lock_guard<std::mutex> lock(mutex_);
        given_ = true;
        changed_.notify_one();
    }

    void Wait()
    {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return given_; });
        given_ = false;
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool given_ = false;
};

// pingPong(count, onPing, onDone): onPing(pong) is called once a round and answers by calling pong();
// onDone(Float64Array) gets the round-trip times in microseconds, sorted.
void PingPong(const Napi::CallbackInfo &info)
{
    const uint32_t count = info[0].As<Napi::Number>().Uint32Value();
    auto answer = std::make_shared<Answer>();
    auto pong =
        Napi::Persistent(Napi::Function::New(info.Env(), [answer](const Napi::CallbackInfo &) { answer->Give(); }));
    auto on_ping = Napi::ThreadSafeFunction::New(info.Env(), info[1].As<Napi::Function>(), "ping", 0, 1);
    auto on_done = Napi::ThreadSafeFunction::New(info.Env(), info[2].As<Napi::Function>(), "done", 0, 1);
    auto shared_pong = std::make_shared<Napi::FunctionReference>(std::move(pong));
    std::thread(
        [=]() mutable
        {
            auto times = std::make_unique<std::vector<double>>();
            times->reserve(count);
            for (uint32_t round = 0; round < count; ++round)
            {
                const auto start = Clock::now();
                on_ping.BlockingCall([shared_pong](Napi::Env, Napi::Function callback)
                                     { callback.Call({shared_pong->Value()}); });
                answer->Wait();
                times->push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
            }
            std::sort(times->begin(), times->end());
            on_done.BlockingCall(times.release(),
                                 [shared_pong](Napi::Env env, Napi::Function callback, std::vector<double> *raw)
                                 {
                                     std::unique_ptr<std::vector<double>> owned(raw);
                                     auto array = Napi::Float64Array::New(env, owned->size());
                                     std::copy(owned->begin(), owned->end(), array.Data());
                                     shared_pong->Reset();
                                     callback.Call({array});
                                 });
            on_ping.Release();
            on_done.Release();
        })
        .detach();
}

Napi::Object Init(Napi::Env env, Napi::Object exports)
{
    exports.Set("emitEvents", Napi::Function::New(env, EmitEvents));
    exports.Set("pingPong", Napi::Function::New(env, PingPong));
    return exports;
}

} // namespace

NODE_API_MODULE(tsfn_peer, Init)
