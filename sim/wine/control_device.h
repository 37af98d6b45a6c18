// The device \\.\NetVerdictSimulation: IRPs of Wine's kernel on one side, requests and events as bytes on the other.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C"
{
#endif

    // Creates the device: an NTSTATUS.
    int32_t ControlDeviceCreate(void);

    // Events have come, or the session has ended: reads that wait for it are completed. Any thread.
    void ControlDeviceNotify(void);

    // ---- What lies behind the device.

    // Carries a request out. `*response` is the caller's to free(). Zero: no memory. `owner` stands for the handle.
    int ControlExecute(const void *owner, const uint8_t *request, size_t length, uint8_t **response,
                       size_t *response_length);

    // Whether a read of events would give something: events, or the session's end.
    int ControlIsReadable(void);

    // Takes whole events, as many as fit: their bytes; 0: there are none; negative: the session has ended.
    int64_t ControlTakeEvents(uint8_t *buffer, size_t capacity);

    void ControlHandleClosed(const void *owner);

#ifdef __cplusplus
}
#endif
