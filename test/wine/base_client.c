// A client of the base protocol in its simplest form: reads of 1024 bytes on one thread, one command in each write.
// It opens the device with FILE_FLAG_OVERLAPPED, as known clients do. Those take ERROR_IO_PENDING for the end of the
// stream, so on Windows no read may pend. Under Wine reads do pend: the driver runs with BaseReadsPend.
// The argument is the service whose device the client opens.
// It prints TAP and a last line of counts.

#include <windows.h>

#include <winioctl.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control_client.h"

#define READ_BYTES       1024
#define STREAM_BYTES     (1024 * 1024)
#define TIME_LIMIT_MS    60000
#define LAYERS_OF_DRIVER 20

#define IOCTL_VERSION CTL_CODE(40000, 0x800, METHOD_BUFFERED, FILE_READ_DATA | FILE_WRITE_DATA)

enum
{
    InfoLogLine = 0,
    InfoConnectionV4 = 1,
    InfoConnectionV6 = 2,
    InfoConnectionEndV4 = 3,
    InfoBandwidthV4 = 5,

    CommandShutdown = 0,
    CommandVerdict = 1,
    CommandUpdateV4 = 2,
    CommandGetLogs = 5,
    CommandGetBandwidth = 6,

    VerdictPermanentAccept = 3,
    VerdictPermanentBlock = 5,
    VerdictPermanentDrop = 7,

    Tcp = 6,
    Udp = 17
};

// ---- Results

static unsigned Passed;
static unsigned Failed;

static void Check(bool holds, const char *name)
{
    printf("%s %u - %s\n", holds ? "ok" : "not ok", Passed + Failed + 1, name);
    fflush(stdout);
    Passed += holds ? 1 : 0;
    Failed += holds ? 0 : 1;
}

static DWORD WINAPI EndInTime(LPVOID unused)
{
    (void)unused;
    Sleep(TIME_LIMIT_MS);
    printf("Bail out! Nothing happens any more.\n");
    fflush(stdout);
    ExitProcess(3);
}

// ---- The device

static HANDLE Device;
static uint8_t Stream[STREAM_BYTES]; // bytes that were read but not yet parsed
static size_t StreamLength;
static size_t LongestRead;
static unsigned Reads;
static unsigned PendedReads;

static bool IsWine(void)
{
    return GetProcAddress(GetModuleHandleA("ntdll.dll"), "wine_get_version") != NULL;
}

// Waits for the end of a request and returns whether it succeeded. `done` is what the call returned.
// Wine signals a request's event before it writes the status, so the status itself is watched.
static bool AwaitEnd(BOOL done, OVERLAPPED *request, DWORD *transferred)
{
    if (!done && GetLastError() != ERROR_IO_PENDING)
    {
        return false;
    }
    while (!HasOverlappedIoCompleted(request))
    {
        Sleep(1);
    }
    return GetOverlappedResult(Device, request, transferred, FALSE);
}

// Returns false at the end of the stream.
static bool ReadMore(void)
{
    OVERLAPPED request = {0};
    DWORD read = 0;
    BOOL done;

    if (StreamLength > STREAM_BYTES - READ_BYTES)
    {
        printf("Bail out! More bytes than any record has.\n");
        ExitProcess(2);
    }
    done = ReadFile(Device, Stream + StreamLength, READ_BYTES, NULL, &request);
    PendedReads += !done && GetLastError() == ERROR_IO_PENDING ? 1 : 0;
    if (!AwaitEnd(done, &request, &read) && GetLastError() != ERROR_HANDLE_EOF)
    {
        printf("Bail out! A read failed: error %lu\n", GetLastError());
        ExitProcess(2);
    }
    Reads++;
    LongestRead = read > LongestRead ? read : LongestRead;
    StreamLength += read;
    return read != 0;
}

typedef struct RECORD
{
    uint8_t Type;
    uint32_t Length;
    uint8_t Body[64 * 1024];
} RECORD;

static RECORD Record;

// Moves to the next record. Returns false at the end of the stream.
static bool NextRecord(void)
{
    const size_t header = 5;

    for (;;)
    {
        if (StreamLength >= header)
        {
            memcpy(&Record.Length, Stream + 1, sizeof(Record.Length));
            if (Record.Length <= sizeof(Record.Body) && StreamLength >= header + Record.Length)
            {
                Record.Type = Stream[0];
                memcpy(Record.Body, Stream + header, Record.Length);
                StreamLength -= header + Record.Length;
                memmove(Stream, Stream + header + Record.Length, StreamLength);
                return true;
            }
        }
        if (!ReadMore())
        {
            return false;
        }
    }
}

// Reads up to the next record of the type, and skips others.
static void Await(uint8_t type)
{
    do
    {
        if (!NextRecord())
        {
            printf("Bail out! The stream ended.\n");
            ExitProcess(2);
        }
    } while (Record.Type != type);
}

static uint16_t U16(size_t offset)
{
    uint16_t value;

    memcpy(&value, Record.Body + offset, sizeof(value));
    return value;
}

static uint32_t U32(size_t offset)
{
    uint32_t value;

    memcpy(&value, Record.Body + offset, sizeof(value));
    return value;
}

static uint64_t U64(size_t offset)
{
    uint64_t value;

    memcpy(&value, Record.Body + offset, sizeof(value));
    return value;
}

static bool Command(const void *bytes, DWORD length)
{
    OVERLAPPED request = {0};
    DWORD written = 0;

    return AwaitEnd(WriteFile(Device, bytes, length, NULL, &request), &request, &written) && written == length;
}

static bool SimpleCommand(uint8_t command)
{
    return Command(&command, sizeof(command));
}

static bool Verdict(uint64_t id, uint8_t verdict)
{
    uint8_t command[10] = {CommandVerdict};

    memcpy(command + 1, &id, sizeof(id));
    command[9] = verdict;
    return Command(command, sizeof(command));
}

static bool UpdateV4(const FLOW *flow, uint8_t verdict)
{
    uint8_t command[15] = {CommandUpdateV4, flow->Protocol};

    memcpy(command + 2, flow->LocalAddress, 4);
    memcpy(command + 6, &flow->LocalPort, 2);
    memcpy(command + 8, flow->RemoteAddress, 4);
    memcpy(command + 12, &flow->RemotePort, 2);
    command[14] = verdict;
    return Command(command, sizeof(command));
}

// ---- The tests

static const FLOW FlowV4 = {.Protocol = Tcp,
                            .Family = 4,
                            .ProcessId = 4242,
                            .LocalAddress = {192, 0, 2, 10},
                            .LocalPort = 50001,
                            .RemoteAddress = {198, 51, 100, 7},
                            .RemotePort = 443};

static const FLOW FlowV6 = {.Protocol = Tcp,
                            .Family = 6,
                            .ProcessId = 77,
                            .LocalAddress = {0x20, 0x01, 0x0d, 0xb8, [15] = 0x10},
                            .LocalPort = 50002,
                            .RemoteAddress = {0x20, 0x01, 0x0d, 0xb8, 0xff, 0xff, [15] = 7},
                            .RemotePort = 80};

static void OpensAlone(const char *name)
{
    char path[300];
    uint8_t version[4];
    OVERLAPPED request = {0};
    DWORD length = 0;
    HANDLE second;
    BOOL done;

    snprintf(path, sizeof(path), "\\\\.\\%s", name);
    Device = CreateFileA(path, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, FILE_FLAG_OVERLAPPED, NULL);
    if (Device == INVALID_HANDLE_VALUE)
    {
        printf("Bail out! %s cannot be opened: error %lu\n", path, GetLastError());
        ExitProcess(2);
    }
    second = CreateFileA(path, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, 0, NULL);
    // Wine opens the device although the driver refuses; every request then fails.
    Check(second == INVALID_HANDLE_VALUE ||
              !DeviceIoControl(second, IOCTL_VERSION, NULL, 0, version, sizeof(version), &length, NULL),
          "a second client is refused");
    if (second != INVALID_HANDLE_VALUE)
    {
        CloseHandle(second);
    }
    done = DeviceIoControl(Device, IOCTL_VERSION, NULL, 0, version, sizeof(version), NULL, &request);
    Check(AwaitEnd(done, &request, &length) && length == 4 && version[0] == 2 && version[1] == 1,
          "the protocol's version is 2.1");
    Check(ControlEngine().Layers == LAYERS_OF_DRIVER, "the driver filters at its 20 layers");
}

static void AcceptsOutbound(uint64_t *flow)
{
    *flow = ControlConnect(&FlowV4, 1);
    Await(InfoConnectionV4);
    Check(U64(8) == 4242, "an outbound connection is asked about with its process");
    Check(Record.Body[16] == 0 && Record.Body[17] == Tcp && memcmp(Record.Body + 18, FlowV4.LocalAddress, 4) == 0 &&
              memcmp(Record.Body + 22, FlowV4.RemoteAddress, 4) == 0 && U16(26) == FlowV4.LocalPort &&
              U16(28) == FlowV4.RemotePort && Record.Body[30] == 4,
          "with its direction, protocol, addresses, ports and layer");
    Check(Verdict(U64(0), VerdictPermanentAccept), "a verdict is taken");
    Check(ControlOutcome(1) == OutcomePermitted, "the accepted connection is let through");
}

static void CountsPayload(uint64_t flow)
{
    static const uint8_t payload[1234];

    ControlSend(flow, payload, 1234, 2);
    Check(ControlOutcome(2) == OutcomePermitted, "what it sends is let through without a question");
    ControlReceive(flow, payload, 555, 3);
    Check(ControlOutcome(3) == OutcomePermitted, "and what it receives");
    Check(SimpleCommand(CommandGetBandwidth), "the bandwidth is asked for");
    Await(InfoBandwidthV4);
    Check(Record.Body[0] == Tcp && U32(1) == 1 && U64(17) == 1234 && U64(25) == 555,
          "one connection's payload is counted, both ways");
}

static void UpdatesVerdict(uint64_t flow)
{
    static const uint8_t payload[10];

    Check(UpdateV4(&FlowV4, VerdictPermanentBlock), "an update is taken");
    ControlSend(flow, payload, sizeof(payload), 4);
    Check(ControlOutcome(4) != OutcomePermitted, "the changed verdict holds for the next packet");
}

static void TellsEnd(uint64_t flow)
{
    ControlCloseFlow(flow);
    Await(InfoConnectionEndV4);
    Check(U64(0) == 4242 && Record.Body[8] == 0 && Record.Body[9] == Tcp && U16(18) == FlowV4.LocalPort,
          "the connection's end is reported");
}

static void BlocksOutboundV6(void)
{
    ControlConnect(&FlowV6, 5);
    Await(InfoConnectionV6);
    Check(U64(8) == 77 && memcmp(Record.Body + 34, FlowV6.RemoteAddress, 16) == 0, "an IPv6 connection is asked about");
    Verdict(U64(0), VerdictPermanentBlock);
    Check(ControlOutcome(5) == OutcomeBlocked, "the blocked connection is blocked");
}

static void AcceptsInbound(void)
{
    FLOW flow = FlowV4;

    flow.LocalPort = 8080;
    flow.RemotePort = 40000;
    ControlAccept(&flow, 6);
    Await(InfoConnectionV4);
    Check(Record.Body[16] == 1 && U16(26) == 8080, "an inbound connection is asked about");
    Verdict(U64(0), VerdictPermanentAccept);
    Check(ControlOutcome(6) == OutcomePermitted, "the accepted connection is let in");
}

// The record of this datagram is longer than a read.
static void DropsLongDatagram(void)
{
    static uint8_t payload[3000];
    FLOW flow = FlowV4;
    unsigned reads_before = Reads;

    memset(payload, 0x5A, sizeof(payload));
    flow.Protocol = Udp;
    flow.LocalPort = 50003;
    flow.Payload = payload;
    flow.PayloadLength = sizeof(payload);
    ControlConnect(&flow, 7);
    Await(InfoConnectionV4);
    Check(U32(31) == 8 + sizeof(payload) && memcmp(Record.Body + 35 + 8, payload, sizeof(payload)) == 0,
          "a datagram is shown whole, from its header on");
    Check(Reads - reads_before >= 3 && LongestRead <= READ_BYTES, "over several reads");
    Verdict(U64(0), VerdictPermanentDrop);
    Check(ControlOutcome(7) == OutcomeDropped, "the dropped datagram is dropped");
}

// Returns whether the log line that was read contains the text.
static bool LineHas(const char *text)
{
    const size_t length = strlen(text);

    for (size_t at = 1; at + length <= Record.Length; at++)
    {
        if (memcmp(Record.Body + at, text, length) == 0)
        {
            return true;
        }
    }
    return false;
}

// The lines come oldest first.
static void Logs(void)
{
    const uint8_t warning = 4;
    bool reads_pend = false;

    Check(Verdict(999999, VerdictPermanentAccept), "a verdict for nobody is no error");
    SimpleCommand(CommandGetLogs);
    do
    {
        Await(InfoLogLine);
        reads_pend = reads_pend || LineHas("BaseReadsPend");
    } while (!LineHas("999999"));
    Check(Record.Body[0] == warning, "but a warning in the log");
    Check(reads_pend == IsWine(), "the log says that reads pend, under Wine alone");
}

static void ShutsDown(void)
{
    FLOW held = FlowV4;
    FLOW later = FlowV4;

    held.LocalPort = 50004;
    later.LocalPort = 50005;
    ControlConnect(&held, 8);
    Await(InfoConnectionV4);
    Check(SimpleCommand(CommandShutdown), "the shutdown is taken");
    while (NextRecord())
    {
    }
    Check(StreamLength == 0, "the stream ends, after a whole record");
    Check((PendedReads != 0) == IsWine(), "a read pends under Wine alone");
    Check(ControlOutcome(8) == OutcomePermitted, "what was held is let through, as the fail policy has it");
    ControlConnect(&later, 9);
    Check(ControlOutcome(9) == OutcomePermitted, "and what comes later, without a question");
    CloseHandle(Device);
}

static void LeavesNothing(void)
{
    const ENGINE engine = ControlEngine();

    Check(engine.PendedOperations == 0 && engine.Injections == 0, "nothing is pended or on its way any more");
}

int main(int count, char **arguments)
{
    uint64_t flow;

    if (count != 2)
    {
        printf("usage: base_client <service name>\n");
        return 2;
    }
    CloseHandle(CreateThread(NULL, 0, EndInTime, NULL, 0, NULL));
    ControlOpen();
    OpensAlone(arguments[1]);
    AcceptsOutbound(&flow);
    CountsPayload(flow);
    UpdatesVerdict(flow);
    TellsEnd(flow);
    BlocksOutboundV6();
    AcceptsInbound();
    DropsLongDatagram();
    Logs();
    ShutsDown();
    LeavesNothing();
    ControlClose();
    printf("1..%u\n%u passed, %u failed\n", Passed + Failed, Passed, Failed);
    return Failed == 0 ? 0 : 1;
}
