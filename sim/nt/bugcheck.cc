#include "nt/bugcheck.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "nt/call_stack.h"

namespace sim
{

namespace
{

std::FILE *other_output;

} // namespace

void SetBugcheckOutput(std::FILE *output)
{
    other_output = output;
}

void Bugcheck(const char *rule, const char *format, ...)
{
    std::FILE *output = other_output == nullptr ? stderr : other_output;
    va_list arguments;

    va_start(arguments, format);
    std::fprintf(output, "*** BUGCHECK %s: ", rule);
    std::vfprintf(output, format, arguments);
    std::fprintf(output, "\n    at %s\n", nt::CallStack::Capture(1).Describe().c_str());
    va_end(arguments);
    std::fflush(output);
    std::abort();
}

} // namespace sim
