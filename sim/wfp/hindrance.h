// What a test in another language can do to the filter engine. The numbers are those of the control protocol.
//
// Concurrency: Hinder may be called from any thread at PASSIVE_LEVEL. Drivers are notified on the calling thread.
#pragma once

#include <ntddk.h>

#include <cstdint>

#include "engine.h"

namespace sim::wfp
{

enum class Hindrance : uint8_t
{
    kBeginForeignTransaction = 0,
    kEndForeignTransaction = 1,
    kRefuse = 2,       // every call fails with the status; STATUS_SUCCESS ends this
    kLoseSessions = 3, // later calls on them fail with the status
    kStopService = 4,
    kStartService = 5
};

// Returns false for an unknown hindrance.
bool Hinder(Engine &engine, Hindrance hindrance, NTSTATUS status);

} // namespace sim::wfp
