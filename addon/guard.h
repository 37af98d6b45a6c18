// Failures on their way to JavaScript. A call of Node-API that fails throws a Napi::Error: at any time each may, as a
// worker can be terminated at any time. The wrapper of each method hands that to JavaScript; what else C++ throws must
// not reach it.
#pragma once

#include <napi.h>

#include <exception>

#include "status.h"
#include "values.h"

namespace netverdict
{

// Does `work`; what it throws for want of memory or of a thread becomes an error for JavaScript.
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

// Does the `work` of a wrapped object's constructor; where that throws, undoes it by `undo` and throws in JavaScript
// alone. The object lives on until it is collected: in a worker that is being terminated it could not be unwrapped, and
// would be deleted again at the worker's end.
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
