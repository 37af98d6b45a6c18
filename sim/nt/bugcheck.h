// The end of a machine that found a broken rule.
#pragma once

// mingw-w64 takes "printf" for Microsoft's older one.
#if defined(__MINGW32__)
#define SIM_PRINTF_FORMAT(format_index, first_argument)                                                                \
    __attribute__((format(gnu_printf, format_index, first_argument)))
#else
#define SIM_PRINTF_FORMAT(format_index, first_argument) __attribute__((format(printf, format_index, first_argument)))
#endif

#include <cstdio>

namespace sim
{

// Prints "*** BUGCHECK <RULE>: text" and aborts the process.
[[noreturn]] void Bugcheck(const char *rule, const char *format, ...) SIM_PRINTF_FORMAT(2, 3);

// Where it prints, if not to stderr.
void SetBugcheckOutput(std::FILE *output);

} // namespace sim
