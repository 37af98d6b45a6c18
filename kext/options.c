#include "options.h"

_Use_decl_annotations_
VOID OptionsSetDefaults(OPTIONS *options)
{
    RtlZeroMemory(options, sizeof(*options));
    options->PayloadLimit = OPTIONS_PAYLOAD_UNLIMITED;
    options->TimeoutVerdict = VerdictAccept;
    options->LogLevel = LogSeverityWarning;
    options->DnsPort = 53;
    options->TunnelPort = 717;
    options->SplitTunnelPort = 719;
    options->MaxQueuedBytes = OPTIONS_DEFAULT_MAX_QUEUED_BYTES;
    options->MaxHeldPackets = OPTIONS_DEFAULT_MAX_HELD_PACKETS;
}

static VOID FillWithDefaults(OPTIONS_WIRE *wire)
{
    OPTIONS defaults;

    OptionsSetDefaults(&defaults);
    wire->StructSize = sizeof(*wire);
    wire->Flags = 0;
    wire->PayloadLimit = defaults.PayloadLimit;
    wire->PendingTimeoutMs = defaults.PendingTimeoutMs;
    wire->TimeoutVerdict = defaults.TimeoutVerdict;
    wire->LogLevel = defaults.LogLevel;
    wire->DnsPort = defaults.DnsPort;
    wire->TunnelPort = defaults.TunnelPort;
    wire->SplitTunnelPort = defaults.SplitTunnelPort;
    wire->MaxQueuedBytes = defaults.MaxQueuedBytes;
    wire->MaxHeldPackets = defaults.MaxHeldPackets;
}

// A field that the request holds in part counts as one that it does not hold.
static SIZE_T WholeFields(SIZE_T structSize)
{
    static const UINT8 fieldEnds[] = {
        FIELD_OFFSET(OPTIONS_WIRE, Flags),
        FIELD_OFFSET(OPTIONS_WIRE, PayloadLimit),
        FIELD_OFFSET(OPTIONS_WIRE, PendingTimeoutMs),
        FIELD_OFFSET(OPTIONS_WIRE, TimeoutVerdict),
        FIELD_OFFSET(OPTIONS_WIRE, LogLevel),
        FIELD_OFFSET(OPTIONS_WIRE, DnsPort),
        FIELD_OFFSET(OPTIONS_WIRE, TunnelPort),
        FIELD_OFFSET(OPTIONS_WIRE, SplitTunnelPort),
        FIELD_OFFSET(OPTIONS_WIRE, MaxQueuedBytes),
        FIELD_OFFSET(OPTIONS_WIRE, MaxHeldPackets),
        sizeof(OPTIONS_WIRE),
    };
    SIZE_T whole = 0;
    UINT32 i;

    for (i = 0; i < RTL_NUMBER_OF(fieldEnds) && fieldEnds[i] <= structSize; i++)
    {
        whole = fieldEnds[i];
    }
    return whole;
}

static UINT32 Clamp(UINT32 value, UINT32 least, UINT32 most)
{
    if (value < least)
    {
        return least;
    }
    return value > most ? most : value;
}

// A timeout has nobody to ask again and, without a client's resolver or tunnel behind it, nowhere to redirect to.
static BOOLEAN IsTimeoutVerdict(UINT8 verdict)
{
    return verdict >= VerdictAccept && verdict <= VerdictPermanentDrop;
}

static BOOLEAN IsValid(const OPTIONS_WIRE *wire)
{
    return (wire->PendingTimeoutMs == 0 || IsTimeoutVerdict(wire->TimeoutVerdict)) &&
           wire->LogLevel >= LogSeverityTrace && wire->LogLevel <= LogSeverityCritical && wire->DnsPort != 0 &&
           wire->TunnelPort != 0 && wire->SplitTunnelPort != 0;
}

_Use_decl_annotations_
NTSTATUS OptionsParse(const UINT8 *request, SIZE_T length, OPTIONS *options)
{
    OPTIONS_WIRE wire;
    UINT32 structSize;
    SIZE_T given;

    if (length < sizeof(structSize))
    {
        return STATUS_INVALID_PARAMETER;
    }
    RtlCopyMemory(&structSize, request, sizeof(structSize));
    if (structSize < sizeof(structSize) || structSize > length)
    {
        return STATUS_INVALID_PARAMETER;
    }

    FillWithDefaults(&wire);
    given = WholeFields(structSize);
    RtlCopyMemory(&wire, request, given);
    if (given <= FIELD_OFFSET(OPTIONS_WIRE, TimeoutVerdict) && (wire.Flags & OPTION_FLAG_FAIL_CLOSED) != 0)
    {
        wire.TimeoutVerdict = VerdictBlock;
    }
    if (!IsValid(&wire))
    {
        return STATUS_INVALID_PARAMETER;
    }

    options->ExtendedRecords = (wire.Flags & OPTION_FLAG_EXTENDED_RECORDS) != 0;
    options->FailClosed = (wire.Flags & OPTION_FLAG_FAIL_CLOSED) != 0;
    options->PayloadLimit = wire.PayloadLimit;
    options->PendingTimeoutMs = wire.PendingTimeoutMs;
    options->TimeoutVerdict = wire.TimeoutVerdict;
    options->LogLevel = wire.LogLevel;
    options->DnsPort = wire.DnsPort;
    options->TunnelPort = wire.TunnelPort;
    options->SplitTunnelPort = wire.SplitTunnelPort;
    options->MaxQueuedBytes = Clamp(wire.MaxQueuedBytes, OPTIONS_LEAST_MAX_QUEUED_BYTES, OPTIONS_MOST_MAX_QUEUED_BYTES);
    options->MaxHeldPackets = Clamp(wire.MaxHeldPackets, 1, OPTIONS_MOST_MAX_HELD_PACKETS);
    return STATUS_SUCCESS;
}
