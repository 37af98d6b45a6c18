#include "addon/win32/win32_status.h"

#include <gtest/gtest.h>

#include "addon/status.h"

namespace netverdict
{
namespace
{

TEST(Win32Status, GivesTheStatusOfTheDriver)
{
    EXPECT_EQ(StatusFromWin32(1), ToStatus(0xC0000010));
    EXPECT_EQ(StatusFromWin32(22), ToStatus(0xC0000184));
    EXPECT_EQ(StatusFromWin32(38), kStatusEndOfFile);
    EXPECT_EQ(StatusFromWin32(548), kStatusDeviceAlreadyAttached);
    EXPECT_EQ(StatusFromWin32(995), kStatusCancelled);
}

TEST(Win32Status, GivesOneStatusForEveryLackOfMemory)
{
    for (const uint32_t error : {8, 14, 1450, 1453, 1455, 1784, 1816})
    {
        EXPECT_EQ(StatusFromWin32(error), kStatusInsufficientResources) << error;
    }
}

TEST(Win32Status, KeepsTheNumberOfAnErrorWithoutAStatus)
{
    EXPECT_EQ(StatusFromWin32(31337), ToStatus(0xC0070000 + 31337));
}

TEST(Win32Status, AnOpenThatFailsWithoutAnErrorNumberWasASecondClient)
{
    EXPECT_EQ(OpenStatusFromWin32(317), kStatusDeviceAlreadyAttached);
    EXPECT_EQ(OpenStatusFromWin32(548), kStatusDeviceAlreadyAttached);
    EXPECT_EQ(OpenStatusFromWin32(5), StatusFromWin32(5));
    EXPECT_EQ(StatusFromWin32(317), ToStatus(0xC0070000 + 317));
}

} // namespace
} // namespace netverdict
