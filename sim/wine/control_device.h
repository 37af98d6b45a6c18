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

    // The session that a handle which asks for events now gets those of.
    uint64_t ControlSession(void);

    // Whether a read of the session's events would give something: events, or its end.
    int ControlIsReadable(uint64_t session);

    // Takes whole events, as many as fit: their bytes; 0: there are none; negative: the session has ended.
    int64_t ControlTakeEvents(uint64_t session, uint8_t *buffer, size_t capacity);

    void ControlHandleClosed(const void *owner);

#ifdef __cplusplus
}
#endif
