#include "js_service.h"

#include <functional>
#include <new>
#include <string>
#include <utility>

#include "driver_file.h"
#include "service.h"

namespace netverdict
{

namespace
{

// One request to the manager, on a thread of the pool, because the start of the driver may take long.
class ServiceRequest final : public Napi::AsyncWorker
{
  public:
    using Work = std::function<ServiceResult(ServiceStatus *)>;

    static Napi::Value Run(Napi::Env env, Work work)
    {
        auto *request = new ServiceRequest(env, std::move(work)); // deletes itself
        const Napi::Promise promise = request->deferred_.Promise();
        request->Queue();
        return promise;
    }

  protected:
    void Execute() override
    {
        try
        {
            result_ = work_(&status_);
        }
        catch (const std::bad_alloc &)
        {
            result_ = {8, "operator new"}; // ERROR_NOT_ENOUGH_MEMORY
        }
    }

    void OnOK() override
    {
        const Napi::Env env = Env();
        const auto path = std::u16string(status_.path.begin(), status_.path.end());
        Napi::Object result = Napi::Object::New(env);
        result.Set("code", Napi::Number::New(env, result_.code));
        result.Set("call", Napi::String::New(env, result_.call));
        result.Set("state", Napi::Number::New(env, status_.state));
        result.Set("exitCode", Napi::Number::New(env, status_.exit_code));
        result.Set("startType", Napi::Number::New(env, status_.start_type));
        result.Set("path", Napi::String::New(env, path));
        deferred_.Resolve(result);
    }

  private:
    ServiceRequest(Napi::Env env, Work work)
        : AsyncWorker(env, "netverdict.service"), deferred_(env), work_(std::move(work))
    {
    }

    Napi::Promise::Deferred deferred_;
    Work work_;
    ServiceResult result_;
    ServiceStatus status_;
};

std::wstring WideOf(const Napi::Value &value)
{
    const std::u16string text = value.As<Napi::String>().Utf16Value();
    return {text.begin(), text.end()};
}

Napi::Value Install(const Napi::CallbackInfo &info)
{
    const auto options = info[0].As<Napi::Object>();
    ServiceConfig config;
    config.name = WideOf(options.Get("name"));
    config.display_name = WideOf(options.Get("displayName"));
    config.path = WideOf(options.Get("path"));
    config.start_type = options.Get("startType").As<Napi::Number>().Uint32Value();
    return ServiceRequest::Run(info.Env(), [config](ServiceStatus *) { return ServiceInstall(config); });
}

template <ServiceResult (*action)(const std::wstring &)> Napi::Value Act(const Napi::CallbackInfo &info)
{
    const std::wstring given = WideOf(info[0]);
    return ServiceRequest::Run(info.Env(), [given](ServiceStatus *) { return action(given); });
}

Napi::Value SetPath(const Napi::CallbackInfo &info)
{
    const std::wstring name = WideOf(info[0]);
    const std::wstring path = WideOf(info[1]);
    return ServiceRequest::Run(info.Env(), [name, path](ServiceStatus *) { return ServiceSetPath(name, path); });
}

Napi::Value CopyDriver(const Napi::CallbackInfo &info)
{
    const std::wstring source = WideOf(info[0]);
    const std::wstring name = WideOf(info[1]);
    return ServiceRequest::Run(info.Env(), [source, name](ServiceStatus *status)
                               { return DriverFileCopy(source, name, &status->path); });
}

Napi::Value VersionOf(const Napi::CallbackInfo &info)
{
    const std::optional<std::string> version = DriverFileVersion(WideOf(info[0]));
    return version ? Napi::String::New(info.Env(), *version) : info.Env().Undefined();
}

Napi::Value Query(const Napi::CallbackInfo &info)
{
    const std::wstring name = WideOf(info[0]);
    return ServiceRequest::Run(info.Env(), [name](ServiceStatus *status) { return ServiceQuery(name, status); });
}

Napi::Value TestSigning(const Napi::CallbackInfo &info)
{
    const std::optional<bool> is_on = IsTestSigningOn();
    return is_on ? Napi::Boolean::New(info.Env(), *is_on) : info.Env().Undefined();
}

} // namespace

Napi::Object DefineService(Napi::Env env)
{
    Napi::Object service = Napi::Object::New(env);
    service.Set("install", Napi::Function::New<Install>(env, "install"));
    service.Set("start", Napi::Function::New<Act<ServiceStart>>(env, "start"));
    service.Set("stop", Napi::Function::New<Act<ServiceStop>>(env, "stop"));
    service.Set("remove", Napi::Function::New<Act<ServiceRemove>>(env, "remove"));
    service.Set("copyDriver", Napi::Function::New<CopyDriver>(env, "copyDriver"));
    service.Set("deleteDriver", Napi::Function::New<Act<DriverFileDelete>>(env, "deleteDriver"));
    service.Set("setPath", Napi::Function::New<SetPath>(env, "setPath"));
    service.Set("versionOf", Napi::Function::New<VersionOf>(env, "versionOf"));
    service.Set("query", Napi::Function::New<Query>(env, "query"));
    service.Set("isTestSigningOn", Napi::Function::New<TestSigning>(env, "isTestSigningOn"));
    return service;
}

} // namespace netverdict
