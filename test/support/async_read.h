// A read of a device that completes at any time, on any thread.
#pragma once

#include "support/bytes.h"

#include "nt/io_manager.h"

#include <atomic>

namespace kext_test
{

struct AsyncRead
{
    ByteVector buffer;
    std::atomic<bool> done{false};
    NTSTATUS status = STATUS_PENDING;
    uint64_t information = 0;

    void Start(sim::nt::IoManager &io, sim::nt::File *file, size_t length);

    // The same, but the read is cancelled where it would wait, so it is done at the return.
    void ReadNow(sim::nt::IoManager &io, sim::nt::File *file, size_t length);

    // The bytes that were read.
    ByteVector data() const;
};

} // namespace kext_test
