// Work for the JavaScript thread of one environment, from any thread: one call into JavaScript's event loop for
// everything that has come together.
//
// Concurrency: Post on any thread, everything else on the JavaScript thread. Tasks run in the order in which they were
// posted. Tasks that are left when the environment ends are forgotten.
#pragma once

#include <napi.h>

#include <functional>
#include <mutex>
#include <vector>

namespace netverdict
{

class JsQueue
{
  public:
    using Task = std::function<void(Napi::Env)>;

    // As long as it is referenced, it keeps the process alive; at first it is.
    explicit JsQueue(Napi::Env env);
    ~JsQueue();

    JsQueue(const JsQueue &) = delete;
    JsQueue &operator=(const JsQueue &) = delete;

    void Post(Task task);

    // Once it is closed, these do nothing.
    void Ref(Napi::Env env);
    void Unref(Napi::Env env);

    // No more tasks are taken. Those that were posted still run.
    void Close();

  private:
    static void Run(napi_env env, napi_value callback, void *context, void *data);

    void RunTasks(Napi::Env env);

    std::mutex mutex_;
    std::vector<Task> tasks_;
    bool signalled_ = false;
    bool closed_ = false;
    napi_threadsafe_function function_ = nullptr;
};

// Calls a function of the application. What it throws becomes an uncaught exception, as from an event listener.
void CallIntoApplication(Napi::Env env, const Napi::FunctionReference &function,
                         const std::initializer_list<napi_value> &arguments);

} // namespace netverdict
