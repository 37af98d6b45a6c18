#include "win32_status.h"

#include <algorithm>
#include <iterator>

#include "../status.h"

namespace netverdict
{

namespace
{

struct Pair
{
    uint32_t error;
    uint32_t status;
};

// [MS-ERREF] 2.2 and 2.3. Windows maps several statuses to one error. This is the most likely one of a device.
constexpr Pair kPairs[] = {
    {1, 0xC0000010},    // ERROR_INVALID_FUNCTION: STATUS_INVALID_DEVICE_REQUEST
    {2, 0xC0000034},    // ERROR_FILE_NOT_FOUND: STATUS_OBJECT_NAME_NOT_FOUND
    {3, 0xC0000034},    // ERROR_PATH_NOT_FOUND
    {5, 0xC0000022},    // ERROR_ACCESS_DENIED
    {6, 0xC0000008},    // ERROR_INVALID_HANDLE
    {8, 0xC000009A},    // ERROR_NOT_ENOUGH_MEMORY: STATUS_INSUFFICIENT_RESOURCES
    {14, 0xC000009A},   // ERROR_OUTOFMEMORY
    {20, 0xC0000034},   // ERROR_BAD_UNIT
    {21, 0xC00000A3},   // ERROR_NOT_READY: STATUS_DEVICE_NOT_READY
    {22, 0xC0000184},   // ERROR_BAD_COMMAND: STATUS_INVALID_DEVICE_STATE
    {31, 0xC0000001},   // ERROR_GEN_FAILURE: STATUS_UNSUCCESSFUL
    {32, 0xC0000043},   // ERROR_SHARING_VIOLATION
    {38, 0xC0000011},   // ERROR_HANDLE_EOF: STATUS_END_OF_FILE
    {50, 0xC00000BB},   // ERROR_NOT_SUPPORTED
    {55, 0xC0000034},   // ERROR_DEV_NOT_EXIST
    {87, 0xC000000D},   // ERROR_INVALID_PARAMETER
    {110, 0xC0000136},  // ERROR_OPEN_FAILED
    {121, 0xC00000B5},  // ERROR_SEM_TIMEOUT: STATUS_IO_TIMEOUT
    {122, 0xC0000023},  // ERROR_INSUFFICIENT_BUFFER: STATUS_BUFFER_TOO_SMALL
    {123, 0xC0000033},  // ERROR_INVALID_NAME: STATUS_OBJECT_NAME_INVALID
    {161, 0xC0000033},  // ERROR_BAD_PATHNAME
    {170, 0x80000011},  // ERROR_BUSY: STATUS_DEVICE_BUSY
    {433, 0xC000000E},  // ERROR_NO_SUCH_DEVICE
    {548, 0xC0000038},  // ERROR_DEVICE_ALREADY_ATTACHED
    {995, 0xC0000120},  // ERROR_OPERATION_ABORTED: STATUS_CANCELLED
    {1117, 0xC0000185}, // ERROR_IO_DEVICE: STATUS_IO_DEVICE_ERROR
    {1167, 0xC000009D}, // ERROR_DEVICE_NOT_CONNECTED
    {1314, 0xC0000022}, // ERROR_PRIVILEGE_NOT_HELD
    {1450, 0xC000009A}, // ERROR_NO_SYSTEM_RESOURCES
    {1453, 0xC000009A}, // ERROR_WORKING_SET_QUOTA
    {1455, 0xC000009A}, // ERROR_COMMITMENT_LIMIT
    {1460, 0xC00000B5}, // ERROR_TIMEOUT
    {1617, 0xC00002B6}, // ERROR_DEVICE_REMOVED
    {1784, 0xC000009A}, // ERROR_INVALID_USER_BUFFER: ReadFile returns it for too many requests at once
    {1816, 0xC000009A}, // ERROR_NOT_ENOUGH_QUOTA
};

// Windows returns this error for a status that has no error number.
constexpr uint32_t kErrorMessageNotFound = 317; // ERROR_MR_MID_NOT_FOUND

} // namespace

int32_t StatusFromWin32(uint32_t error)
{
    const Pair *const found =
        std::find_if(std::begin(kPairs), std::end(kPairs), [error](const Pair &pair) { return pair.error == error; });
    return ToStatus(found != std::end(kPairs) ? found->status : 0xC0070000 | (error & 0xFFFF));
}

int32_t OpenStatusFromWin32(uint32_t error)
{
    // STATUS_DEVICE_ALREADY_ATTACHED refuses a second client. Some versions of Windows have no error number for it.
    // Every other status of a failed open has one.
    return error == kErrorMessageNotFound ? kStatusDeviceAlreadyAttached : StatusFromWin32(error);
}

} // namespace netverdict
