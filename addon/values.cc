#include "values.h"

#include <cstdio>

namespace netverdict
{

uint64_t ToUint64(const Napi::Value &number)
{
    return static_cast<uint64_t>(number.As<Napi::Number>().Int64Value());
}

std::vector<uint8_t> ToBytes(const Napi::Value &uint8_array)
{
    const auto array = uint8_array.As<Napi::Uint8Array>();
    return std::vector<uint8_t>(array.Data(), array.Data() + array.ElementLength());
}

Napi::Uint8Array FromBytes(Napi::Env env, const uint8_t *bytes, size_t length)
{
    Napi::Uint8Array array = Napi::Uint8Array::New(env, length);
    std::copy_n(bytes, length, array.Data());
    return array;
}

Napi::Number FromStatus(Napi::Env env, int32_t status)
{
    return Napi::Number::New(env, static_cast<uint32_t>(status));
}

Napi::Error StatusError(Napi::Env env, const char *what, int32_t status)
{
    char message[128];
    std::snprintf(message, sizeof message, "%s: status 0x%08X.", what, static_cast<unsigned>(status));
    Napi::Error error = Napi::Error::New(env, message);
    error.Value().Set("status", FromStatus(env, status));
    return error;
}

} // namespace netverdict
