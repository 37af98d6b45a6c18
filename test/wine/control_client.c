#include "control_client.h"

#include <windows.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICE_PATH       "\\\\.\\NetVerdictSimulation"
#define MAX_REQUEST_BYTES (70u * 1024u)
#define MAX_OUTCOMES      256u
#define NO_OUTCOME        0xFF

static HANDLE Requests;
static HANDLE Events;
static uint8_t Request[MAX_REQUEST_BYTES];
static size_t RequestLength;
static uint8_t Outcomes[MAX_OUTCOMES];

static void Fail(const char *what)
{
    printf("Bail out! %s: error %lu\n", what, GetLastError());
    fflush(stdout);
    ExitProcess(2);
}

static void Put(const void *bytes, size_t length)
{
    if (length > sizeof(Request) - RequestLength)
    {
        Fail("a request is too long");
    }
    memcpy(Request + RequestLength, bytes, length);
    RequestLength += length;
}

static void PutU8(uint8_t value)
{
    Put(&value, sizeof(value));
}

static void PutU16(uint16_t value)
{
    Put(&value, sizeof(value));
}

static void PutU64(uint64_t value)
{
    Put(&value, sizeof(value));
}

static void Begin(uint8_t operation)
{
    RequestLength = 0;
    PutU8(operation);
}

static void Write(HANDLE handle)
{
    DWORD written;

    if (!WriteFile(handle, Request, (DWORD)RequestLength, &written, NULL) || written != RequestLength)
    {
        Fail("a request was refused");
    }
}

// Sends the request and reads an answer of this length.
static void Ask(void *answer, size_t length)
{
    uint8_t response[1024];
    uint32_t status;
    DWORD read;

    Write(Requests);
    if (!ReadFile(Requests, response, sizeof(response), &read, NULL) || read != sizeof(status) + length)
    {
        Fail("a response is not as it must be");
    }
    memcpy(&status, response, sizeof(status));
    if (status != 0)
    {
        SetLastError(status);
        Fail("a request failed");
    }
    memcpy(answer, response + sizeof(status), length);
}

static void Tell(void)
{
    Ask(NULL, 0);
}

static HANDLE Open(void)
{
    HANDLE handle = CreateFileA(DEVICE_PATH, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL,
                                OPEN_EXISTING, 0, NULL);

    if (handle == INVALID_HANDLE_VALUE)
    {
        Fail("the simulation's device cannot be opened");
    }
    return handle;
}

void ControlOpen(void)
{
    memset(Outcomes, NO_OUTCOME, sizeof(Outcomes));
    Requests = Open();
    Events = Open();
    Begin(kControlBegin);
    Tell();
    Begin(kControlEvents);
    Write(Events);
}

void ControlClose(void)
{
    Begin(kControlEnd);
    Tell();
    CloseHandle(Events);
    CloseHandle(Requests);
}

static uint64_t StartFlow(uint8_t operation, const FLOW *flow, uint64_t tag)
{
    static const WCHAR path[] = L"\\device\\harddiskvolume1\\test\\base_client.exe";
    const uint16_t path_bytes = sizeof(path) - sizeof(WCHAR);
    uint64_t id;

    Begin(operation);
    PutU64(tag);
    PutU8(flow->Protocol);
    PutU8(flow->Family);
    PutU8(0);
    PutU64(flow->ProcessId);
    Put(flow->LocalAddress, sizeof(flow->LocalAddress));
    PutU16(flow->LocalPort);
    Put(flow->RemoteAddress, sizeof(flow->RemoteAddress));
    PutU16(flow->RemotePort);
    PutU8(0); // the first link
    PutU8(0); // no ICMP message: its type and its code follow
    PutU8(0);
    PutU8(0);
    PutU8(0); // no multicast groups
    PutU16(path_bytes);
    Put(path, path_bytes);
    Put(flow->Payload, flow->PayloadLength);
    Ask(&id, sizeof(id));
    return id;
}

uint64_t ControlConnect(const FLOW *flow, uint64_t tag)
{
    return StartFlow(kControlConnect, flow, tag);
}

uint64_t ControlAccept(const FLOW *flow, uint64_t tag)
{
    return StartFlow(kControlAccept, flow, tag);
}

static void Transfer(uint8_t operation, uint64_t flow, const void *bytes, size_t length, uint64_t tag)
{
    Begin(operation);
    PutU64(tag);
    PutU64(flow);
    Put(bytes, length);
    Tell();
}

void ControlSend(uint64_t flow, const void *bytes, size_t length, uint64_t tag)
{
    Transfer(kControlSend, flow, bytes, length, tag);
}

void ControlReceive(uint64_t flow, const void *bytes, size_t length, uint64_t tag)
{
    Transfer(kControlReceive, flow, bytes, length, tag);
}

void ControlCloseFlow(uint64_t flow)
{
    Begin(kControlCloseFlow);
    PutU64(flow);
    Tell();
}

ENGINE ControlEngine(void)
{
    ENGINE engine;

    Begin(kControlEngine);
    Ask(&engine, sizeof(engine));
    return engine;
}

static void TakeEvents(const uint8_t *bytes, size_t length)
{
    while (length != 0)
    {
        uint32_t body;
        uint64_t tag;

        memcpy(&body, bytes, sizeof(body));
        memcpy(&tag, bytes + 5, sizeof(tag));
        if (bytes[4] == kControlOutcome && tag < MAX_OUTCOMES)
        {
            Outcomes[tag] = bytes[13];
        }
        bytes += sizeof(body) + body;
        length -= sizeof(body) + body;
    }
}

OUTCOME ControlOutcome(uint64_t tag)
{
    static uint8_t buffer[CONTROL_EVENT_BYTES];
    OUTCOME outcome;
    DWORD read;

    while (Outcomes[tag] == NO_OUTCOME)
    {
        if (!ReadFile(Events, buffer, sizeof(buffer), &read, NULL) || read == 0)
        {
            Fail("the events ended");
        }
        TakeEvents(buffer, read);
    }
    outcome = (OUTCOME)Outcomes[tag];
    Outcomes[tag] = NO_OUTCOME;
    return outcome;
}
