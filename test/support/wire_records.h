// The records and commands of the wire format that differ with the IP version, and the counters by name, as packed
// structures. The driver encodes and decodes them field by field, so these check it independently.
#pragma once

#include "wire.h"

#include <cstddef>

#pragma pack(push, 1)

typedef struct _CONNECTION_V4_WIRE
{
    INFO_HEADER_WIRE Header;
    UINT64 Id;
    UINT64 ProcessId;
    UINT8 Direction;
    UINT8 Protocol;
    UINT8 LocalAddress[4];
    UINT8 RemoteAddress[4];
    UINT16 LocalPort;
    UINT16 RemotePort;
    UINT8 PayloadLayer;
    UINT32 PayloadLength; ///< the payload follows
} CONNECTION_V4_WIRE;

typedef struct _CONNECTION_V6_WIRE
{
    INFO_HEADER_WIRE Header;
    UINT64 Id;
    UINT64 ProcessId;
    UINT8 Direction;
    UINT8 Protocol;
    UINT8 LocalAddress[16];
    UINT8 RemoteAddress[16];
    UINT16 LocalPort;
    UINT16 RemotePort;
    UINT8 PayloadLayer;
    UINT32 PayloadLength; ///< the payload follows
} CONNECTION_V6_WIRE;

typedef struct _CONNECTION_END_V4_WIRE
{
    INFO_HEADER_WIRE Header;
    UINT64 ProcessId;
    UINT8 Direction;
    UINT8 Protocol;
    UINT8 LocalAddress[4];
    UINT8 RemoteAddress[4];
    UINT16 LocalPort;
    UINT16 RemotePort;
} CONNECTION_END_V4_WIRE;

typedef struct _CONNECTION_END_V6_WIRE
{
    INFO_HEADER_WIRE Header;
    UINT64 ProcessId;
    UINT8 Direction;
    UINT8 Protocol;
    UINT8 LocalAddress[16];
    UINT8 RemoteAddress[16];
    UINT16 LocalPort;
    UINT16 RemotePort;
} CONNECTION_END_V6_WIRE;

typedef struct _BANDWIDTH_ENTRY_V4_WIRE
{
    UINT8 LocalAddress[4];
    UINT16 LocalPort;
    UINT8 RemoteAddress[4];
    UINT16 RemotePort;
    UINT64 TransmittedBytes;
    UINT64 ReceivedBytes;
} BANDWIDTH_ENTRY_V4_WIRE;

typedef struct _BANDWIDTH_ENTRY_V6_WIRE
{
    UINT8 LocalAddress[16];
    UINT16 LocalPort;
    UINT8 RemoteAddress[16];
    UINT16 RemotePort;
    UINT64 TransmittedBytes;
    UINT64 ReceivedBytes;
} BANDWIDTH_ENTRY_V6_WIRE;

typedef struct _COMMAND_UPDATE_V4_WIRE
{
    UINT8 Command;
    UINT8 Protocol;
    UINT8 LocalAddress[4];
    UINT16 LocalPort;
    UINT8 RemoteAddress[4];
    UINT16 RemotePort;
    UINT8 Verdict;
} COMMAND_UPDATE_V4_WIRE;

typedef struct _COMMAND_UPDATE_V6_WIRE
{
    UINT8 Command;
    UINT8 Protocol;
    UINT8 LocalAddress[16];
    UINT16 LocalPort;
    UINT8 RemoteAddress[16];
    UINT16 RemotePort;
    UINT8 Verdict;
} COMMAND_UPDATE_V6_WIRE;

typedef struct _STATISTICS_FIELDS_WIRE
{
    UINT32 StructSize;
    UINT64 EventsQueued;
    UINT64 EventsDelivered;
    UINT64 EventsLost;
    UINT64 BytesDelivered;
    UINT64 ReadsCompleted;
    UINT64 VerdictsApplied;
    UINT64 VerdictsUnknownId;
    UINT64 CommandsRejected;
    UINT64 PacketsHeld;
    UINT64 Connections;
    UINT64 BandwidthEntries;
    UINT64 PoolBytes;
    UINT64 PoolBytesPeak;
    UINT64 PacketsPermitted;
    UINT64 PacketsBlocked;
    UINT64 PacketsInjected;
    UINT64 InjectFailures;
    UINT64 PacketsRedirected;
    UINT64 FragmentsBlocked;
    UINT64 MalformedPackets;
    UINT64 ClientStalls;
    UINT64 DecidedInPlace;
    UINT64 CopiesCoalesced;
    UINT64 CopiesLargeSend;
    UINT64 CopiesPartialChecksum;
    UINT64 CopiesSecured;
    UINT64 EngineRetries;
    UINT64 EngineState;
} STATISTICS_FIELDS_WIRE;

#pragma pack(pop)

static_assert(sizeof(CONNECTION_V4_WIRE) == 5 + 35, "ConnectionV4");
static_assert(sizeof(CONNECTION_V6_WIRE) == 5 + 59, "ConnectionV6");
static_assert(sizeof(CONNECTION_END_V4_WIRE) == 5 + 22, "ConnectionEndV4");
static_assert(sizeof(CONNECTION_END_V6_WIRE) == 5 + 46, "ConnectionEndV6");
static_assert(sizeof(BANDWIDTH_ENTRY_V4_WIRE) == 28, "BandwidthStatsV4 entry");
static_assert(sizeof(BANDWIDTH_ENTRY_V6_WIRE) == 52, "BandwidthStatsV6 entry");
static_assert(sizeof(COMMAND_UPDATE_V4_WIRE) == 15, "UpdateV4 command");
static_assert(sizeof(COMMAND_UPDATE_V6_WIRE) == 39, "UpdateV6 command");
static_assert(sizeof(STATISTICS_FIELDS_WIRE) == 4 + 28 * 8, "statistics");

static_assert(sizeof(CONNECTION_V6_WIRE) == WIRE_LONGEST_CONNECTION, "the longest record of a connection");
static_assert(sizeof(BANDWIDTH_ENTRY_V4_WIRE) == WIRE_BANDWIDTH_ENTRY_V4, "the driver's length of an entry");
static_assert(sizeof(BANDWIDTH_ENTRY_V6_WIRE) == WIRE_BANDWIDTH_ENTRY_V6, "the driver's length of an entry");
static_assert(sizeof(COMMAND_UPDATE_V4_WIRE) == WIRE_UPDATE_V4, "the driver's length of the command");
static_assert(sizeof(COMMAND_UPDATE_V6_WIRE) == WIRE_UPDATE_V6, "the driver's length of the command");

#define CHECK_COUNTER(name)                                                                                            \
    static_assert(offsetof(STATISTICS_FIELDS_WIRE, name) == 4 + Statistic##name * 8, "the order of the counters")

CHECK_COUNTER(EventsQueued);
CHECK_COUNTER(EventsDelivered);
CHECK_COUNTER(EventsLost);
CHECK_COUNTER(BytesDelivered);
CHECK_COUNTER(ReadsCompleted);
CHECK_COUNTER(VerdictsApplied);
CHECK_COUNTER(VerdictsUnknownId);
CHECK_COUNTER(CommandsRejected);
CHECK_COUNTER(PacketsHeld);
CHECK_COUNTER(Connections);
CHECK_COUNTER(BandwidthEntries);
CHECK_COUNTER(PoolBytes);
CHECK_COUNTER(PoolBytesPeak);
CHECK_COUNTER(PacketsPermitted);
CHECK_COUNTER(PacketsBlocked);
CHECK_COUNTER(PacketsInjected);
CHECK_COUNTER(InjectFailures);
CHECK_COUNTER(PacketsRedirected);
CHECK_COUNTER(FragmentsBlocked);
CHECK_COUNTER(MalformedPackets);
CHECK_COUNTER(ClientStalls);
CHECK_COUNTER(DecidedInPlace);
CHECK_COUNTER(CopiesCoalesced);
CHECK_COUNTER(CopiesLargeSend);
CHECK_COUNTER(CopiesPartialChecksum);
CHECK_COUNTER(CopiesSecured);
CHECK_COUNTER(EngineRetries);
CHECK_COUNTER(EngineState);

#undef CHECK_COUNTER
