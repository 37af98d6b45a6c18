#include "js_queue.h"

#include <utility>

#include "guard.h"

namespace netverdict
{

namespace
{

// Does `work`. An exception of it becomes an uncaught exception.
template <typename Work> void TellOfExceptions(Napi::Env env, Work work)
{
    try
    {
        try
        {
            Guard(env, work);
        }
        catch (const Napi::Error &error)
        {
            napi_fatal_exception(env, error.Value());
        }
    }
    catch (const Napi::Error &) // the environment is being terminated
    {
    }
}

} // namespace

JsQueue::JsQueue(Napi::Env env)
{
    const napi_status status =
        napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "netverdict"), 0, 1, nullptr,
                                        nullptr, this, &JsQueue::Run, &function_);
    if (status != napi_ok)
    {
        throw Napi::Error::New(env);
    }
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

void JsQueue::RunLast(Napi::Env env)
{
    RunTasks(env);
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
        TellOfExceptions(env, [&] { task(env); });
    }
}

void CallIntoApplication(Napi::Env env, const Napi::FunctionReference &function,
                         const std::initializer_list<napi_value> &arguments)
{
    TellOfExceptions(env, [&] { function.Call(arguments); });
}

} // namespace netverdict
