#include "nt/bugcheck.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "nt/call_stack.h"

namespace sim
{

void Bugcheck(const char *rule, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    std::fprintf(stderr, "*** BUGCHECK %s: ", rule);
    std::vfprintf(stderr, format, arguments);
    std::fprintf(stderr, "\n    at %s\n", nt::CallStack::Capture(1).Describe().c_str());
    va_end(arguments);
    std::fflush(stderr);
    std::abort();
}

} // namespace sim
