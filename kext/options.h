// What the attached client may choose. Pure functions over one structure: no state, no locks.

#pragma once

#include "protocol.h"

EXTERN_C_START

typedef struct _OPTIONS
{
    BOOLEAN ExtendedRecords;
    BOOLEAN FailClosed;
    UINT32 PayloadLimit;     ///< bytes of payload in one connection record
    UINT32 PendingTimeoutMs; ///< 0: a held packet waits for its verdict without end
    UINT8 TimeoutVerdict;    ///< VERDICT; by default the fail policy's
    UINT8 LogLevel;          ///< LOG_SEVERITY
    UINT16 DnsPort;
    UINT16 TunnelPort;
    UINT16 SplitTunnelPort;
    UINT32 MaxQueuedBytes;
    UINT32 MaxHeldPackets;
} OPTIONS;

#define OPTIONS_PAYLOAD_UNLIMITED        0xFFFFFFFFu
#define OPTIONS_DEFAULT_MAX_QUEUED_BYTES (16u * 1024u * 1024u)
#define OPTIONS_DEFAULT_MAX_HELD_PACKETS 65536u

// Bounds of what a client may ask for: the limits are there to bound nonpaged pool.
#define OPTIONS_LEAST_MAX_QUEUED_BYTES (64u * 1024u)
#define OPTIONS_MOST_MAX_QUEUED_BYTES  (256u * 1024u * 1024u)
#define OPTIONS_MOST_MAX_HELD_PACKETS  (1024u * 1024u)

/// What a client has that never sent SetOptions. Any IRQL.
VOID OptionsSetDefaults(_Out_ OPTIONS *options);

/// Reads a SetOptions request (`OPTIONS_WIRE`, shorter or longer). Fields not wholly within its StructSize get their
/// defaults; bytes beyond the known fields and unknown flag bits are ignored. MaxQueuedBytes and MaxHeldPackets are
/// brought into their bounds. STATUS_INVALID_PARAMETER, with `options` unchanged, when the buffer is shorter than its
/// StructSize says, when StructSize does not even cover itself, or for a value out of range: port 0, a LogLevel that is
/// no severity, a timeout with a TimeoutVerdict that decides nothing or redirects. Any IRQL.
_Must_inspect_result_
NTSTATUS OptionsParse(_In_reads_bytes_(length) const UINT8 *request, _In_ SIZE_T length, _Inout_ OPTIONS *options);

EXTERN_C_END
