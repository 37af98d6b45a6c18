#include "options.h"

#include "verdict.h"

// What happens to a value out of bounds.
typedef enum _OPTION_RULE
{
    OptionRefuse,
    OptionClamp,
    OptionClampOrDefault // the same, but 0 is the default
} OPTION_RULE;

typedef struct _OPTION_FIELD
{
    UINT8 Offset; // in OPTIONS_WIRE
    UINT8 Size;   // in bytes: 1, 2 or 4
    UINT8 Rule;   // OPTION_RULE
    UINT32 Least;
    UINT32 Most;
    UINT32 Default;
} OPTION_FIELD;

#define OPTION(field, rule, least, most, value)                                                                        \
    {FIELD_OFFSET(OPTIONS_WIRE, field), sizeof(((OPTIONS_WIRE *)0)->field), rule, least, most, value}

// The fields of a request, in its order.
static const OPTION_FIELD OptionFields[] = {
    OPTION(StructSize, OptionRefuse, 0, MAXULONG, sizeof(OPTIONS_WIRE)),
    OPTION(Flags, OptionRefuse, 0, MAXULONG, 0),
    OPTION(PayloadLimit, OptionRefuse, 0, MAXULONG, OPTIONS_PAYLOAD_UNLIMITED),
    OPTION(PendingTimeoutMs, OptionRefuse, 0, MAXULONG, 0),
    OPTION(TimeoutVerdict, OptionRefuse, 0, MAXULONG, VerdictUndecided),
    OPTION(LogLevel, OptionRefuse, LogSeverityTrace, LogSeverityCritical, LogSeverityWarning),
    OPTION(DnsPort, OptionRefuse, 1, MAXULONG, 53),
    OPTION(TunnelPort, OptionRefuse, 1, MAXULONG, 717),
    OPTION(SplitTunnelPort, OptionRefuse, 1, MAXULONG, 719),
    OPTION(MaxQueuedBytes, OptionClamp, OPTIONS_LEAST_MAX_QUEUED_BYTES, OPTIONS_MOST_MAX_QUEUED_BYTES,
           OPTIONS_DEFAULT_MAX_QUEUED_BYTES),
    OPTION(MaxHeldPackets, OptionClamp, 1, OPTIONS_MOST_MAX_HELD_PACKETS, OPTIONS_DEFAULT_MAX_HELD_PACKETS),
    OPTION(StallTimeoutMs, OptionRefuse, 0, MAXULONG, 0),
    OPTION(MaxConnections, OptionClampOrDefault, OPTIONS_LEAST_MAX_CONNECTIONS, OPTIONS_MOST_MAX_CONNECTIONS,
           OPTIONS_DEFAULT_MAX_CONNECTIONS),
};

static VOID OptionsSet(OPTIONS *options, const OPTION_FIELD *field, UINT32 value)
{
    // Little-endian: the low bytes come first.
    RtlCopyMemory((UINT8 *)options + field->Offset, &value, field->Size);
}

static VOID OptionsFill(OPTIONS *options)
{
    UINT32 i;

    for (i = 0; i < RTL_NUMBER_OF(OptionFields); i++)
    {
        OptionsSet(options, &OptionFields[i], OptionFields[i].Default);
    }
}

// The verdict is permanent, so the second packet of a connection does not wait again.
static VOID OptionsSetTimeoutVerdict(OPTIONS *options)
{
    if (options->TimeoutVerdict == VerdictUndecided)
    {
        options->TimeoutVerdict =
            OptionsHas(options, OPTION_FLAG_FAIL_CLOSED) ? VerdictPermanentBlock : VerdictPermanentAccept;
    }
}

_Use_decl_annotations_
VOID OptionsSetDefaults(OPTIONS *options)
{
    OptionsFill(options);
    OptionsSetTimeoutVerdict(options);
}

// Sets a field from the request, and clamps the value if its rule says so.
// FALSE: the value is out of bounds, and its rule is OptionRefuse.
static BOOLEAN OptionsTake(OPTIONS *options, const OPTION_FIELD *field, const UINT8 *request)
{
    UINT32 value = 0;

    RtlCopyMemory(&value, request + field->Offset, field->Size);
    if (value < field->Least || value > field->Most)
    {
        if (field->Rule == OptionRefuse)
        {
            return FALSE;
        }
        if (field->Rule == OptionClampOrDefault && value == 0)
        {
            return TRUE; // the field has its default already
        }
        value = value < field->Least ? field->Least : field->Most;
    }
    OptionsSet(options, field, value);
    return TRUE;
}

_Use_decl_annotations_
NTSTATUS OptionsParse(const UINT8 *request, SIZE_T length, OPTIONS *options)
{
    OPTIONS parsed;
    UINT32 structSize;
    UINT32 i;

    if (length < sizeof(structSize))
    {
        return STATUS_INVALID_PARAMETER;
    }
    RtlCopyMemory(&structSize, request, sizeof(structSize));
    if (structSize < sizeof(structSize) || structSize > length)
    {
        return STATUS_INVALID_PARAMETER;
    }
    OptionsFill(&parsed);
    for (i = 0; i < RTL_NUMBER_OF(OptionFields) && OptionFields[i].Offset + OptionFields[i].Size <= structSize; i++)
    {
        if (!OptionsTake(&parsed, &OptionFields[i], request))
        {
            return STATUS_INVALID_PARAMETER;
        }
    }
    OptionsSetTimeoutVerdict(&parsed);
    if (parsed.PendingTimeoutMs != 0 && !VerdictRow(parsed.TimeoutVerdict)->TimesOut)
    {
        return STATUS_INVALID_PARAMETER;
    }
    *options = parsed;
    return STATUS_SUCCESS;
}
