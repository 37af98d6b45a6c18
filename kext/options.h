// Options of the attached client. Pure functions over one structure: no state, no locks.

#pragma once

#include "protocol.h"

EXTERN_C_START

/// The options in force: those of SetOptions, with every field set. OptionsHas reads a flag.
typedef OPTIONS_WIRE OPTIONS;

/// No bound on the payload bytes of a connection record.
#define OPTIONS_PAYLOAD_UNLIMITED 0xFFFFFFFFu

#define OPTIONS_DEFAULT_MAX_QUEUED_BYTES (16u * 1024u * 1024u)
#define OPTIONS_DEFAULT_MAX_HELD_PACKETS 65536u
#define OPTIONS_DEFAULT_MAX_CONNECTIONS  (1024u * 1024u)

/// The least StructSize of a client that knows extension 2.
#define OPTIONS_EXTENSION_2_BYTES RTL_SIZEOF_THROUGH_FIELD(OPTIONS_WIRE, StallTimeoutMs)

// A client's limits stay within these bounds, because they bound nonpaged pool.
#define OPTIONS_LEAST_MAX_QUEUED_BYTES (64u * 1024u)
#define OPTIONS_MOST_MAX_QUEUED_BYTES  (256u * 1024u * 1024u)
#define OPTIONS_MOST_MAX_HELD_PACKETS  (1024u * 1024u)
#define OPTIONS_LEAST_MAX_CONNECTIONS  4096u
#define OPTIONS_MOST_MAX_CONNECTIONS   (4096u * 1024u)

FORCEINLINE BOOLEAN OptionsHas(_In_ const OPTIONS *options, _In_ UINT32 flag)
{
    return (options->Flags & flag) != 0;
}

/// The protocol extension whose records the client understands. 0: the base protocol alone.
FORCEINLINE UINT8 OptionsRecordExtension(_In_ const OPTIONS *options)
{
    if (!OptionsHas(options, OPTION_FLAG_EXTENDED_RECORDS))
    {
        return 0;
    }
    return options->StructSize >= OPTIONS_EXTENSION_2_BYTES ? 2 : 1;
}

/// The options of a client that has not sent SetOptions. Any IRQL.
VOID OptionsSetDefaults(_Out_ OPTIONS *options);

/// Reads a SetOptions request, which may be shorter or longer than OPTIONS_WIRE. Any IRQL.
///
/// A field not wholly within the request's StructSize gets its default.
/// Bytes behind the known fields are ignored, and so are unknown flags.
/// MaxQueuedBytes, MaxHeldPackets and MaxConnections are brought into their bounds. MaxConnections 0 is the default.
/// TimeoutVerdict 0 becomes the permanent verdict of the fail policy.
///
/// STATUS_INVALID_PARAMETER leaves `options` unchanged. The request has one of these mistakes:
/// - StructSize exceeds the buffer or does not cover itself;
/// - a port is 0, or LogLevel is no severity;
/// - a timeout has a TimeoutVerdict that decides nothing or redirects.
_Must_inspect_result_
NTSTATUS OptionsParse(_In_reads_bytes_(length) const UINT8 *request, _In_ SIZE_T length, _Inout_ OPTIONS *options);

EXTERN_C_END
