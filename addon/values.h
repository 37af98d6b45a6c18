// Between JavaScript's values and plain ones. The library has checked every argument before it comes here.
#pragma once

#include <napi.h>

#include <cstdint>
#include <vector>

namespace netverdict
{

uint64_t ToUint64(const Napi::Value &number);
std::vector<uint8_t> ToBytes(const Napi::Value &uint8_array);

Napi::Uint8Array FromBytes(Napi::Env env, const uint8_t *bytes, size_t length);

// NTSTATUS as the library compares them: unsigned.
Napi::Number FromStatus(Napi::Env env, int32_t status);

// An Error that has the `status`.
Napi::Error StatusError(Napi::Env env, const char *what, int32_t status);

} // namespace netverdict
