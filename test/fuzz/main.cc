// What all fuzzers share: a failed expectation ends the run as a finding.
#include <gtest/gtest.h>

extern "C" int LLVMFuzzerInitialize(int *, char ***)
{
    GTEST_FLAG_SET(break_on_failure, true);
    return 0;
}
