// Memory that Windows gives and LocalFree takes back.

#pragma once

#include <windows.h>

#include <memory>

namespace netverdict
{

struct LocalFreeOnExit
{
    void operator()(void *memory) const { LocalFree(memory); }
};
using LocalMemory = std::unique_ptr<void, LocalFreeOnExit>;

} // namespace netverdict
