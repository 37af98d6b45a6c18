// A test of one kext module: it has a machine and counted memory.
#pragma once

#include "clock.h"
#include "memory.h"

#include "support/machine_test.h"

#include "nt/fault_injection.h"
#include "nt/pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace kext_test
{

// At the end of a test no memory may be left.
class KextTest : public MachineTest
{
  protected:
    explicit KextTest(const sim::MachineOptions &options = StandingClock()) : MachineTest(options)
    {
        ClockInitialize(&clock_);
        MemoryInitialize(&memory_);
    }

    ~KextTest() override { EXPECT_EQ(MemoryBytes(&memory_), 0u) << machine_.pool().Report(); }

    // Runs `body` on `count` threads at once. Its argument is the thread's number.
    void RunThreads(unsigned count, const std::function<void(unsigned)> &body)
    {
        std::atomic<unsigned> ready{0};
        std::vector<std::thread> threads;

        for (unsigned i = 0; i < count; i++)
        {
            threads.emplace_back(
                [&, i]
                {
                    sim::Machine::Scope scope(machine_);

                    ready++;
                    while (ready < count)
                    {
                        std::this_thread::yield();
                    }
                    body(i);
                });
        }
        for (std::thread &thread : threads)
        {
            thread.join();
        }
    }

    // Runs `body` once per allocation that it makes: in run n allocation n fails. Returns the number of those runs.
    unsigned ForEachAllocationFailure(const std::function<void(unsigned)> &body)
    {
        for (unsigned n = 0;; n++)
        {
            machine_.faults().FailNth(n);
            body(n);
            uint64_t failures = machine_.faults().failures();
            machine_.faults().Stop();
            if (failures == 0)
            {
                return n;
            }
        }
    }

    // A thread runs deferred work.
    static sim::MachineOptions WithWorker()
    {
        sim::MachineOptions options = StandingClock();

        options.worker = true;
        return options;
    }

    CLOCK clock_;
    MEMORY memory_;
};

// Raises the thread to DISPATCH_LEVEL until the end of the block.
class AtDispatchLevel
{
  public:
    AtDispatchLevel() { KeRaiseIrql(DISPATCH_LEVEL, &irql_); }
    ~AtDispatchLevel() { KeLowerIrql(irql_); }

    AtDispatchLevel(const AtDispatchLevel &) = delete;
    AtDispatchLevel &operator=(const AtDispatchLevel &) = delete;

  private:
    KIRQL irql_;
};

inline std::vector<uint8_t> Bytes(const std::string &text)
{
    return std::vector<uint8_t>(text.begin(), text.end());
}

} // namespace kext_test
