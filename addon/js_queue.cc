#include "js_queue.h"

#include <utility>

#include "guard.h"

namespace netverdict
{

namespace
{

void TellOfException(Napi::Env env)
{
    if (env.IsExceptionPending())
    {
        napi_fatal_exception(env, env.GetAndClearPendingException().Value());
    }
}

} // namespace

JsQueue::JsQueue(Napi::Env env)
{
    const napi_status status =
        napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "netverdict"), 0, 1, nullptr,
                                        nullptr, this, &JsQueue::Run, &function_);
    NAPI_CHECK(status == napi_ok, "JsQueue::JsQueue", "napi_create_threadsafe_function failed");
}

JsQueue::~JsQueue()
{
    Close();
}

void JsQueue::Post(Task task)
{
    std::lock_guard<std::mutex> lock(mutex_);
    if (closed_)
    {
        return;
    }
    tasks_.push_back(std::move(task));
    if (!signalled_)
    {
        signalled_ = napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking) == napi_ok;
    }
}

void JsQueue::Ref(Napi::Env env)
{
    if (!closed_)
    {
        napi_ref_threadsafe_function(env, function_);
    }
}

void JsQueue::Unref(Napi::Env env)
{
    if (!closed_)
    {
        napi_unref_threadsafe_function(env, function_);
    }
}

void JsQueue::Close()
{
    std::lock_guard<std::mutex> lock(mutex_);
    if (!closed_)
    {
        closed_ = true;
        napi_release_threadsafe_function(function_, napi_tsfn_abort);
    }
}

void JsQueue::Run(napi_env env, napi_value, void *context, void *)
{
    if (env != nullptr)
    {
        static_cast<JsQueue *>(context)->RunTasks(Napi::Env(env));
    }
}

void JsQueue::RunTasks(Napi::Env env)
{
    std::vector<Task> tasks;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        tasks.swap(tasks_);
        signalled_ = false;
    }
    for (Task &task : tasks)
    {
        Napi::HandleScope scope(env);
        Guard(env, [&] { task(env); });
        TellOfException(env);
    }
}

void CallIntoApplication(Napi::Env env, const Napi::FunctionReference &function,
                         const std::initializer_list<napi_value> &arguments)
{
    function.Call(arguments);
    TellOfException(env);
}

} // namespace netverdict
