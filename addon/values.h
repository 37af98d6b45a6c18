// Converts between JavaScript values and plain values. The library has checked every argument before.
#pragma once

#include <napi.h>

#include <cstdint>
#include <vector>

namespace netverdict
{

uint64_t ToUint64(const Napi::Value &number);
std::vector<uint8_t> ToBytes(const Napi::Value &uint8_array);

Napi::Uint8Array FromBytes(Napi::Env env, const uint8_t *bytes, size_t length);

// NTSTATUS as an unsigned number, which the library compares.
Napi::Number FromStatus(Napi::Env env, int32_t status);

// Makes an Error with the property `status`.
Napi::Error StatusError(Napi::Env env, const char *what, int32_t status);

} // namespace netverdict
