// Tasks for the JavaScript thread of one environment, from any thread.
// One call into JavaScript's event loop runs every task that is waiting.
//
// Concurrency: any thread may call Post. Only the JavaScript thread calls the other methods.
// Tasks run in the order of their posting. The end of the environment drops the tasks that are left.
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

    // A referenced queue keeps the process alive. It starts referenced.
    explicit JsQueue(Napi::Env env);
    ~JsQueue();

    JsQueue(const JsQueue &) = delete;
    JsQueue &operator=(const JsQueue &) = delete;

    void Post(Task task);

    // These do nothing once it is closed.
    void Ref(Napi::Env env);
    void Unref(Napi::Env env);

    // Takes no tasks from here on. Tasks that were posted run only if RunLast is called.
    void Close();

    // Runs the tasks that were posted before Close, for an owner that does not live until the event loop runs them.
    void RunLast(Napi::Env env);

  private:
    static void Run(napi_env env, napi_value callback, void *context, void *data);

    void RunTasks(Napi::Env env);

    std::mutex mutex_;
    std::vector<Task> tasks_;
    bool signalled_ = false;
    bool closed_ = false;
    napi_threadsafe_function function_ = nullptr;
};

// Calls a function of the application. An exception of it becomes an uncaught exception, as in an event listener.
void CallIntoApplication(Napi::Env env, const Napi::FunctionReference &function,
                         const std::initializer_list<napi_value> &arguments);

} // namespace netverdict
