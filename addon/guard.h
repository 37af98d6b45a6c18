// What C++ throws for want of memory or of a thread must not reach Node-API, which knows no exceptions.
#pragma once

#include <napi.h>

#include <exception>

#include "status.h"
#include "values.h"

namespace netverdict
{

// Does `work`; where that throws, throws in JavaScript instead, and returns nothing.
template <typename Work> auto Guard(Napi::Env env, Work work) -> decltype(work())
{
    try
    {
        return work();
    }
    catch (const std::exception &error)
    {
        StatusError(env, error.what(), kStatusInsufficientResources).ThrowAsJavaScriptException();
    }
    return decltype(work())();
}

} // namespace netverdict
