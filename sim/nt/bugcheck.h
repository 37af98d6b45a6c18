// Bugcheck: ends the process when a rule of the simulated kernel is broken.
#pragma once

// On mingw-w64 the attribute "printf" means Microsoft's older printf.
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

// Sets the stream for bugcheck texts; the default is stderr.
void SetBugcheckOutput(std::FILE *output);

} // namespace sim
