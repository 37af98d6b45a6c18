#include "support/async_read.h"

#include "nt/user_wait.h"

#include <gtest/gtest.h>

#include <thread>

namespace kext_test
{

namespace
{

constexpr uint8_t kUntouched = 0xEE;

void Complete(void *context, NTSTATUS status, uint64_t information)
{
    auto *read = static_cast<AsyncRead *>(context);

    EXPECT_FALSE(read->done) << "completed twice";
    EXPECT_LE(information, read->buffer.size());
    read->status = status;
    read->information = information;
    read->done = true;
}

} // namespace

void AsyncRead::Start(sim::nt::IoManager &io, sim::nt::File *file, size_t length)
{
    buffer.assign(length, kUntouched);
    done = false;
    io.Read(file, buffer.data(), static_cast<uint32_t>(length), Complete, this);
}

void AsyncRead::ReadNow(sim::nt::IoManager &io, sim::nt::File *file, size_t length)
{
    {
        // A base client's read waits before it returns.
        const sim::nt::WhileWaiting cancel([&] { io.Cancel(file, this); });

        Start(io, file, length);
    }
    if (!done)
    {
        io.Cancel(file, this);
    }
    // Another thread may complete the read at the same time.
    while (!done)
    {
        std::this_thread::yield();
    }
}

ByteVector AsyncRead::data() const
{
    return ByteVector(buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(information));
}

} // namespace kext_test
