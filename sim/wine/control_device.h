// The device \\.\NetVerdictSimulation: IRPs of Wine's kernel on one side, requests and events as bytes on the other.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C"
{
#endif

    // Creates the device. Returns an NTSTATUS.
    int32_t ControlDeviceCreate(void);

    // Call this when events have come or the session has ended: waiting reads complete. Any thread.
    void ControlDeviceNotify(void);

    // ---- The functions behind the device.

    // Executes a request of the handle `owner`. Returns 0 when there is no memory. The caller frees `*response`.
    int ControlExecute(const void *owner, const uint8_t *request, size_t length, uint8_t **response,
                       size_t *response_length);

    // Returns the session whose events a handle gets that asks for events now.
    uint64_t ControlSession(void);

    // Returns whether a read of the session's events has a result: events, or the end of the session.
    int ControlIsReadable(uint64_t session);

    // Takes as many whole events as fit. Returns their bytes; 0: there are none; negative: the session has ended.
    int64_t ControlTakeEvents(uint64_t session, uint8_t *buffer, size_t capacity);

    void ControlHandleClosed(const void *owner);

#ifdef __cplusplus
}
#endif
