// Shared by all fuzzers: a failed expectation ends the run as a finding.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

extern "C" int LLVMFuzzerInitialize(int *, char ***)
{
    GTEST_FLAG_SET(break_on_failure, true);
    // libFuzzer saves the input of an abort, but not of a breakpoint.
    std::signal(SIGTRAP, [](int) { std::abort(); });
    return 0;
}
