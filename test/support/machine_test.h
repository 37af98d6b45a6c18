// A test that runs on a simulated machine.
#pragma once

#include "machine.h"
#include "nt/clock.h"

#include <gtest/gtest.h>

#include <chrono>

namespace kext_test
{

// Time passes only in Advance(), and deferred work runs only in machine_.Run().
inline sim::MachineOptions StandingClock()
{
    sim::MachineOptions options;

    options.virtual_clock = true;
    options.worker = false;
    return options;
}

class MachineTest : public testing::Test
{
  protected:
    explicit MachineTest(const sim::MachineOptions &options = StandingClock()) : machine_(options), scope_(machine_) {}

    void Advance(std::chrono::nanoseconds duration) { machine_.clock().Advance(duration); }

    sim::Machine machine_;
    sim::Machine::Scope scope_;
};

} // namespace kext_test
