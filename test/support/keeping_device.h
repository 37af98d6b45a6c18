// A driver of the base protocol whose reads keep the thread that issues them.
#pragma once

#include "addon/device.h"

#include <memory>

namespace netverdict_test
{

// What ends such a read before its record comes.
enum class ReadsEnd
{
    kByCancel,
    kByShutdown,
    kByNothing
};

// Puts such a driver before `device`, whose own reads may pend. The driver refuses every extension of the protocol.
std::shared_ptr<netverdict::Device> KeepReads(std::shared_ptr<netverdict::Device> device, ReadsEnd ends);

} // namespace netverdict_test
