#include "js_closer.h"

#include <system_error>
#include <utility>

namespace netverdict
{

JsCloser::JsCloser(Napi::Env env, JsQueue &queue, std::function<void()> close, std::function<void()> closed)
    : env_(env), queue_(queue), close_(std::move(close)), closed_(std::move(closed))
{
    napi_add_env_cleanup_hook(env_, &OnEnvironmentEnd, this);
}

JsCloser::~JsCloser()
{
    CloseAndWait();
}

void JsCloser::Start(const Napi::Object &self)
{
    if (!is_closing_)
    {
        kept_ = Napi::Persistent(self);
        queue_.Ref(env_);
        StartThread();
    }
}

Napi::Value JsCloser::Close(const Napi::CallbackInfo &info)
{
    auto closed = Napi::Promise::Deferred::New(info.Env());
    if (is_closed_)
    {
        closed.Resolve(info.Env().Undefined());
        return closed.Promise();
    }
    promises_.push_back(closed);
    Start(info.This().As<Napi::Object>());
    return closed.Promise();
}

bool JsCloser::CloseAndWait()
{
    if (is_closed_)
    {
        return false;
    }
    Finish();
    napi_remove_env_cleanup_hook(env_, &OnEnvironmentEnd, this);
    return true;
}

void JsCloser::StartThread()
{
    is_closing_ = true;
    try
    {
        thread_ = std::thread([this] { CloseIt(); });
    }
    catch (const std::system_error &)
    {
        CloseIt();
    }
}

void JsCloser::CloseIt()
{
    close_();
    queue_.Post([this](Napi::Env env) { ReportClosed(env); });
}

void JsCloser::ReportClosed(Napi::Env env)
{
    Finish();
    napi_remove_env_cleanup_hook(env_, &OnEnvironmentEnd, this);
    for (const Napi::Promise::Deferred &promise : promises_)
    {
        promise.Resolve(env.Undefined());
    }
    promises_.clear();
    kept_.Reset();
}

void JsCloser::Finish()
{
    if (!is_closing_)
    {
        StartThread();
    }
    if (thread_.joinable())
    {
        thread_.join();
    }
    is_closed_ = true;
    closed_();
    queue_.Close();
}

void JsCloser::OnEnvironmentEnd(void *self)
{
    auto *const closer = static_cast<JsCloser *>(self);
    if (!closer->is_closed_)
    {
        closer->Finish();
    }
}

} // namespace netverdict
