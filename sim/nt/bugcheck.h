// The end of a machine that found a broken rule.
#pragma once

namespace sim
{

// Prints "*** BUGCHECK <RULE>: text" to stderr and aborts the process.
[[noreturn]] void Bugcheck(const char *rule, const char *format, ...) __attribute__((format(printf, 2, 3)));

} // namespace sim
