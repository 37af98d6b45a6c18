// The wire format between the kext and user mode (docs: the protocol page). Little-endian, packed, nothing aligned.
// IP addresses are in network byte order, ports in little-endian.

#pragma once

#include "platform.h"

EXTERN_C_START

#define PROTOCOL_VERSION_MAJOR    2
#define PROTOCOL_VERSION_MINOR    1
#define PROTOCOL_VERSION_REVISION 0
#define PROTOCOL_VERSION_BUILD    0

#define PROTOCOL_EXTENSION 2

// Most commands that one write may hold. GetCapabilities reports this number to the client.
#define PROTOCOL_MAX_COMMANDS_PER_WRITE 65536

// Longest record. A reader rejects a longer record as a corrupt stream.
#define PROTOCOL_MAX_RECORD_LENGTH (16u * 1024u * 1024u)

// Most entries of one bandwidth record.
#define PROTOCOL_MAX_BANDWIDTH_ENTRIES 4096

typedef enum _INFO_TYPE
{
    InfoLogLine = 0,
    InfoConnectionV4 = 1,
    InfoConnectionV6 = 2,
    InfoConnectionEndV4 = 3,
    InfoConnectionEndV6 = 4,
    InfoBandwidthStatsV4 = 5,
    InfoBandwidthStatsV6 = 6,
    InfoEventsLost = 64,
    InfoReplyEnd = 65,
    InfoProcessInfo = 66,
    InfoConnectionTimeout = 67,
    // Extension 2.
    InfoClientStalled = 68,
    InfoConnectionInfo = 69,
    InfoConnectionEnded = 70
} INFO_TYPE;

typedef enum _COMMAND
{
    CommandShutdown = 0,
    CommandVerdict = 1,
    CommandUpdateV4 = 2,
    CommandUpdateV6 = 3,
    CommandClearCache = 4,
    CommandGetLogs = 5,
    CommandGetBandwidthStats = 6,
    CommandPrintMemoryStats = 7,
    CommandCleanEndedConnections = 8,
    CommandCount
} COMMAND;

typedef enum _VERDICT
{
    VerdictUndecided = 0,
    VerdictUndeterminable = 1,
    VerdictAccept = 2,
    VerdictPermanentAccept = 3,
    VerdictBlock = 4,
    VerdictPermanentBlock = 5,
    VerdictDrop = 6,
    VerdictPermanentDrop = 7,
    VerdictRedirectNameServer = 8,
    VerdictRedirectTunnel = 9,
    VerdictFailed = 10,
    VerdictRedirectSplitTunnel = 11,
    VerdictCount
} VERDICT;

typedef enum _DIRECTION
{
    DirectionOutbound = 0,
    DirectionInbound = 1
} DIRECTION;

typedef enum _LOG_SEVERITY
{
    LogSeverityTrace = 1,
    LogSeverityDebug = 2,
    LogSeverityInfo = 3,
    LogSeverityWarning = 4,
    LogSeverityError = 5,
    LogSeverityCritical = 6
} LOG_SEVERITY;

typedef enum _LOSS_REASON
{
    LossUncounted = 0, ///< not on the wire: the producer keeps the data and tries again
    LossQueueFull = 1,
    LossHeldPacketLimit = 2,
    LossOutOfMemory = 3,
    LossConnectionLimit = 4,
    LossOwnerShare = 5,
    LossFragmentLimit = 6,
    LossReasonCount
} LOSS_REASON;

/// Why the driver itself resolved a question, in a ConnectionTimeout record.
typedef enum _TIMEOUT_CAUSE
{
    TimeoutCauseTime = 0,
    TimeoutCauseStall = 1,
    TimeoutCauseShare = 2,
    TimeoutCauseLimit = 3
} TIMEOUT_CAUSE;

/// Why a connection is no longer in the table, in a ConnectionEnded record.
typedef enum _END_REASON
{
    EndReasonClosed = 0,
    EndReasonPortReleased = 1,
    EndReasonIdle = 2,
    EndReasonEvicted = 3,
    EndReasonCleared = 4
} END_REASON;

/// The counters of GetStatistics, in their order on the wire. A value marked "now" is read from its owner.
typedef enum _STATISTIC
{
    StatisticEventsQueued,
    StatisticEventsDelivered,
    StatisticEventsLost,
    StatisticBytesDelivered,
    StatisticReadsCompleted,
    StatisticVerdictsApplied,
    StatisticVerdictsUnknownId,
    StatisticCommandsRejected,
    StatisticPacketsHeld,      ///< now
    StatisticConnections,      ///< now
    StatisticBandwidthEntries, ///< now
    StatisticPoolBytes,        ///< now
    StatisticPoolBytesPeak,    ///< now
    StatisticPacketsPermitted,
    StatisticPacketsBlocked,
    StatisticPacketsInjected,
    StatisticInjectFailures,
    StatisticPacketsRedirected,
    StatisticFragmentsBlocked,
    StatisticMalformedPackets,
    StatisticClientStalls,          ///< times that the client was stalled
    StatisticDecidedInPlace,        ///< packets that could be neither held nor sent again
    StatisticCopiesCoalesced,       ///< 0: reserved
    StatisticCopiesLargeSend,       ///< 0: reserved
    StatisticCopiesPartialChecksum, ///< 0: reserved
    StatisticCopiesSecured,         ///< copies of packets that IPsec protected
    StatisticEngineRetries,
    StatisticEngineState, ///< now: ENGINE_STATE
    StatisticCount
} STATISTIC;

/// What the filter engine did in the driver's last attempt to give it the filters that are wanted.
typedef enum _ENGINE_STATE
{
    EngineStopped = 0,   ///< its service does not run
    EngineRefused = 1,   ///< it refused, and the driver tries again
    EngineBusy = 2,      ///< another product's transaction is open, and the driver tries again
    EngineReady = 3,     ///< it has no filters, because nobody wants any
    EngineFiltering = 4, ///< it has all filters
    EngineLost = 5,      ///< it has lost filters, which the driver adds anew
    ENGINE_STATE_COUNT
} ENGINE_STATE;

// Where the payload of a connection record starts.
#define PROTOCOL_PAYLOAD_NETWORK_LAYER   3 ///< at the IP header: recorded at a packet layer
#define PROTOCOL_PAYLOAD_TRANSPORT_LAYER 4 ///< at the transport header: recorded at an ALE layer

// IANA protocol numbers.
#define PROTOCOL_ICMP   1
#define PROTOCOL_IGMP   2
#define PROTOCOL_TCP    6
#define PROTOCOL_UDP    17
#define PROTOCOL_ICMPV6 58

#define PROTOCOL_DEVICE_TYPE 40000
#define PROTOCOL_IOCTL(function)                                                                                       \
    (((ULONG)PROTOCOL_DEVICE_TYPE << 16) | ((ULONG)(FILE_READ_DATA | FILE_WRITE_DATA) << 14) |                         \
     ((ULONG)(function) << 2) | METHOD_BUFFERED)

#define IOCTL_NETVERDICT_VERSION          PROTOCOL_IOCTL(0x800)
#define IOCTL_NETVERDICT_SHUTDOWN_REQUEST PROTOCOL_IOCTL(0x801)
#define IOCTL_NETVERDICT_GET_CAPABILITIES PROTOCOL_IOCTL(0x810)
#define IOCTL_NETVERDICT_SET_OPTIONS      PROTOCOL_IOCTL(0x811)
#define IOCTL_NETVERDICT_GET_STATISTICS   PROTOCOL_IOCTL(0x812)
// Extension 2.
#define IOCTL_NETVERDICT_KEEPALIVE         PROTOCOL_IOCTL(0x813)
#define IOCTL_NETVERDICT_GET_CONNECTIONS   PROTOCOL_IOCTL(0x814)
#define IOCTL_NETVERDICT_UPDATE_CONNECTION PROTOCOL_IOCTL(0x815)

#define OPTION_FLAG_EXTENDED_RECORDS 0x1u
#define OPTION_FLAG_FAIL_CLOSED      0x2u
// Extension 2.
#define OPTION_FLAG_DROP_STRAY_RESETS   0x4u
#define OPTION_FLAG_ASK_CONTROL_TRAFFIC 0x8u
#define OPTION_FLAG_PERMIT_LOOPBACK     0x10u
#define OPTION_FLAG_CONNECTION_INFO     0x20u

// Bits of CONNECTION_INFO_WIRE.Flags.
#define CONNECTION_INFO_LOOPBACK    0x1u
#define CONNECTION_INFO_MULTICAST   0x2u
#define CONNECTION_INFO_BROADCAST   0x4u
#define CONNECTION_INFO_ASKED_AGAIN 0x8u

// Bits of CONNECTION_ENTRY_LIFE_WIRE.Flags.
#define CONNECTION_ENTRY_REPORTED 0x1u
#define CONNECTION_ENTRY_ENDED    0x2u
#define CONNECTION_ENTRY_WAITING  0x4u

// Bits of CAPABILITIES_WIRE.FeatureBits.
#define FEATURE_EXTENDED_RECORDS 0x1ULL
#define FEATURE_OPTIONS          0x2ULL
#define FEATURE_STATISTICS       0x4ULL
#define FEATURE_COMMAND_BATCHES  0x8ULL
// Extension 2. A bit is set once the feature works.
#define FEATURE_STALL             0x10ULL
#define FEATURE_MAX_CONNECTIONS   0x20ULL
#define FEATURE_GET_CONNECTIONS   0x40ULL
#define FEATURE_UPDATE_CONNECTION 0x80ULL
#define FEATURE_CONNECTION_INFO   0x100ULL
#define FEATURE_TRAFFIC_FLAGS     0x200ULL ///< OPTION_FLAG_DROP_STRAY_RESETS to OPTION_FLAG_PERMIT_LOOPBACK

#pragma pack(push, 1)

typedef struct _INFO_HEADER_WIRE
{
    UINT8 Type;    ///< INFO_TYPE
    UINT32 Length; ///< bytes that follow this header
} INFO_HEADER_WIRE;

typedef struct _LOG_LINE_WIRE
{
    INFO_HEADER_WIRE Header;
    UINT8 Severity; ///< LOG_SEVERITY; UTF-8 text follows to the end of the record
} LOG_LINE_WIRE;

typedef struct _BANDWIDTH_STATS_WIRE
{
    INFO_HEADER_WIRE Header;
    UINT8 Protocol;
    UINT32 Count; ///< number of entries that follow
} BANDWIDTH_STATS_WIRE;

typedef struct _EVENTS_LOST_WIRE
{
    INFO_HEADER_WIRE Header;
    UINT64 Count;
    UINT8 Reason; ///< LOSS_REASON
} EVENTS_LOST_WIRE;

/// Follows EVENTS_LOST_WIRE from extension 2 on.
typedef struct _EVENTS_LOST_OWNER_WIRE
{
    UINT64 ProcessId; ///< 0: several or none
} EVENTS_LOST_OWNER_WIRE;

typedef struct _REPLY_END_WIRE
{
    INFO_HEADER_WIRE Header;
    UINT8 Command; ///< COMMAND
    UINT64 Sequence;
} REPLY_END_WIRE;

typedef struct _PROCESS_INFO_WIRE
{
    INFO_HEADER_WIRE Header;
    UINT64 ProcessId; ///< UTF-16LE image path follows to the end of the record
} PROCESS_INFO_WIRE;

typedef struct _CONNECTION_TIMEOUT_WIRE
{
    INFO_HEADER_WIRE Header;
    UINT64 Id;
} CONNECTION_TIMEOUT_WIRE;

/// Follows CONNECTION_TIMEOUT_WIRE from extension 2 on. The body of a ConnectionEnd of this type follows.
typedef struct _CONNECTION_TIMEOUT_VERDICT_WIRE
{
    UINT8 Verdict;
    UINT8 Cause; ///< TIMEOUT_CAUSE
    UINT8 Type;  ///< InfoConnectionEndV4 or InfoConnectionEndV6
} CONNECTION_TIMEOUT_VERDICT_WIRE;

typedef struct _CLIENT_STALLED_WIRE
{
    INFO_HEADER_WIRE Header;
    UINT64 Count;
    UINT64 DurationMs;
} CLIENT_STALLED_WIRE;

typedef struct _CONNECTION_INFO_WIRE
{
    INFO_HEADER_WIRE Header;
    UINT64 Id;
    UINT64 Time;         ///< 100 ns since 1601, UTC
    UINT64 ProcessStart; ///< the same; 0: unknown
    UINT32 Flags;        ///< CONNECTION_INFO_ bits
    UINT32 InterfaceIndex;
    UINT32 Compartment;
} CONNECTION_INFO_WIRE;

typedef struct _CONNECTION_ENDED_WIRE
{
    INFO_HEADER_WIRE Header;
    UINT64 Id;        ///< of the last question, or 0
    UINT64 StartTime; ///< 100 ns since 1601, UTC
    UINT64 EndTime;
    UINT64 TransmittedBytes;
    UINT64 ReceivedBytes;
    UINT8 Verdict;
    UINT8 Reason; ///< END_REASON
} CONNECTION_ENDED_WIRE;

typedef struct _COMMAND_VERDICT_WIRE
{
    UINT8 Command;
    UINT64 Id;
    UINT8 Verdict;
} COMMAND_VERDICT_WIRE;

typedef struct _VERSION_WIRE
{
    UINT8 Major;
    UINT8 Minor;
    UINT8 Revision;
    UINT8 Build;
} VERSION_WIRE;

typedef struct _CAPABILITIES_WIRE
{
    UINT32 StructSize;
    UINT32 ProtocolExtension;
    UINT64 FeatureBits;
    UINT32 MaxCommandsPerWrite;
} CAPABILITIES_WIRE;

typedef struct _OPTIONS_WIRE
{
    UINT32 StructSize;
    UINT32 Flags;
    UINT32 PayloadLimit;
    UINT32 PendingTimeoutMs;
    UINT8 TimeoutVerdict;
    UINT8 LogLevel;
    UINT16 DnsPort;
    UINT16 TunnelPort;
    UINT16 SplitTunnelPort;
    UINT32 MaxQueuedBytes;
    UINT32 MaxHeldPackets;
    // Extension 2.
    UINT32 StallTimeoutMs;
    UINT32 MaxConnections;
} OPTIONS_WIRE;

/// The request of GetConnections.
typedef struct _GET_CONNECTIONS_WIRE
{
    UINT32 StructSize;
    UINT64 Cursor; ///< 0: the start
} GET_CONNECTIONS_WIRE;

/// The reply of GetConnections. `Count` entries follow.
/// An entry is the type of a ConnectionEnd, its body, and CONNECTION_ENTRY_LIFE_WIRE.
typedef struct _CONNECTIONS_WIRE
{
    UINT64 NextCursor; ///< 0: that was all
    UINT32 Count;
} CONNECTIONS_WIRE;

typedef struct _CONNECTION_ENTRY_LIFE_WIRE
{
    UINT64 Id;           ///< of the question that waits; 0: none
    UINT64 ProcessStart; ///< 100 ns since 1601, UTC; 0: unknown
    UINT64 StartTime;    ///< the same
    UINT64 IdleMs;
    UINT64 TransmittedBytes;
    UINT64 ReceivedBytes;
    UINT8 Verdict;
    UINT8 Flags; ///< CONNECTION_ENTRY_ bits
} CONNECTION_ENTRY_LIFE_WIRE;

typedef struct _STATISTICS_WIRE
{
    UINT32 StructSize;
    UINT64 Counters[StatisticCount]; ///< indexed by STATISTIC
} STATISTICS_WIRE;

#pragma pack(pop)

static_assert(sizeof(INFO_HEADER_WIRE) == 5, "info header");
static_assert(sizeof(LOG_LINE_WIRE) == 5 + 1, "LogLine");
static_assert(sizeof(BANDWIDTH_STATS_WIRE) == 5 + 5, "BandwidthStats");
static_assert(sizeof(EVENTS_LOST_WIRE) == 5 + 9, "EventsLost");
static_assert(sizeof(EVENTS_LOST_OWNER_WIRE) == 8, "EventsLost, extension 2");
static_assert(sizeof(REPLY_END_WIRE) == 5 + 9, "ReplyEnd");
static_assert(sizeof(PROCESS_INFO_WIRE) == 5 + 8, "ProcessInfo");
static_assert(sizeof(CONNECTION_TIMEOUT_WIRE) == 5 + 8, "ConnectionTimeout");
static_assert(sizeof(CONNECTION_TIMEOUT_VERDICT_WIRE) == 3, "ConnectionTimeout, extension 2");
static_assert(sizeof(CLIENT_STALLED_WIRE) == 5 + 16, "ClientStalled");
static_assert(sizeof(CONNECTION_INFO_WIRE) == 5 + 36, "ConnectionInfo");
static_assert(sizeof(CONNECTION_ENDED_WIRE) == 5 + 42, "ConnectionEnded");
static_assert(sizeof(COMMAND_VERDICT_WIRE) == 10, "Verdict command");
static_assert(sizeof(VERSION_WIRE) == 4, "version");
static_assert(sizeof(CAPABILITIES_WIRE) == 20, "capabilities");
static_assert(sizeof(OPTIONS_WIRE) == 40, "options");
static_assert(sizeof(GET_CONNECTIONS_WIRE) == 12, "GetConnections");
static_assert(sizeof(CONNECTIONS_WIRE) == 12, "connections");
static_assert(sizeof(CONNECTION_ENTRY_LIFE_WIRE) == 50, "an entry's end");
static_assert(sizeof(STATISTICS_WIRE) == 4 + 28 * 8, "statistics");

EXTERN_C_END
