// Failures on their way to JavaScript.
// A failed Node-API call throws a Napi::Error. Any call may fail, because a worker can be terminated at any time.
// The wrapper of each method hands a Napi::Error to JavaScript. No other C++ exception may reach the wrapper.
#pragma once

#include <napi.h>

#include <exception>

#include "status.h"
#include "values.h"

namespace netverdict
{

// Does `work`. If it throws because memory or a thread is lacking, JavaScript gets an error.
template <typename Work> auto Guard(Napi::Env env, Work work) -> decltype(work())
{
    try
    {
        return work();
    }
    catch (const Napi::Error &)
    {
        throw;
    }
    catch (const std::exception &error)
    {
        throw StatusError(env, error.what(), kStatusInsufficientResources);
    }
}

// Does the `work` of a wrapped object's constructor. If that throws, it undoes it by `undo`, and throws in JavaScript.
// The C++ constructor itself never throws: the object lives on until it is collected.
// A worker that is being terminated could not unwrap the object, and would delete it a second time at its end.
template <typename Work, typename Undo> void GuardConstruction(Napi::Env env, Work work, Undo undo)
{
    try
    {
        Guard(env, work);
    }
    catch (const Napi::Error &error)
    {
        undo();
        error.ThrowAsJavaScriptException();
    }
}

} // namespace netverdict
