#include "support/driver_loader.h"

#include "nt/io_manager.h"

#include <gtest/gtest.h>

#include <utility>

namespace kext_test
{

NTSTATUS DriverLoader::Load(const std::u16string &service)
{
    return machine_.io().LoadDriver(DriverEntry, service, &driver_);
}

void DriverLoader::Unload()
{
    if (driver_ != nullptr)
    {
        EXPECT_EQ(BeginUnload(), STATUS_SUCCESS);
    }
}

NTSTATUS DriverLoader::BeginUnload()
{
    return machine_.io().UnloadDriver(std::exchange(driver_, nullptr));
}

} // namespace kext_test
