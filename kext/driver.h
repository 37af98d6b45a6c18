// The driver: one context, in the device extension, that holds all state. There are no globals: callouts get the
// context through their filter, dispatch routines through the device.

#pragma once

#include "bandwidth.h"
#include "callouts.h"
#include "client.h"
#include "command.h"
#include "event.h"
#include "fragment_table.h"
#include "hold.h"
#include "inject.h"
#include "maintenance.h"
#include "power.h"
#include "redirect.h"

EXTERN_C_START

// Bounds of nonpaged pool, whatever the network and the client do.
#define DRIVER_MAX_CONNECTIONS       (1024u * 1024u)
#define DRIVER_MAX_BANDWIDTH_ENTRIES (256u * 1024u)

// Windows allows 256 characters in a service name.
#define DRIVER_MAX_NAME_LENGTH 256u
#define DRIVER_LINK_PREFIX     L"\\DosDevices\\"

typedef struct _DRIVER_CONTEXT
{
    PDEVICE_OBJECT DeviceObject;
    UNICODE_STRING LinkName;
    WCHAR LinkBuffer[sizeof(DRIVER_LINK_PREFIX) / sizeof(WCHAR) + DRIVER_MAX_NAME_LENGTH];
    MEMORY Memory;
    STATISTICS Statistics;
    LOG Log;
    IO_QUEUE Queue;
    EVENTS Events;
    CONNECTION_TABLE Connections;
    PACKET_CACHE Packets;
    FRAGMENT_TABLE Fragments;
    REDIRECT_TABLE Redirects;
    BANDWIDTH Bandwidth;
    COMMANDS Commands;
    CLIENT Client;
    HOLD Hold;
    INJECTOR Injector;
    MAINTENANCE Maintenance;
    CALLOUTS Callouts;
    POWER Power;
    volatile LONG64 NextMalformedLog; ///< KeQueryInterruptTime from which a malformed packet is logged again
    volatile LONG64 NextFailureLog;   ///< the same for what the fail policy decided
    volatile LONG64 NextBandwidthLog; ///< and for bytes that could not be counted
} DRIVER_CONTEXT;

PLATFORM_INIT
DRIVER_INITIALIZE DriverEntry;

FORCEINLINE DRIVER_CONTEXT *DriverContextOfDevice(_In_ PDEVICE_OBJECT device)
{
    return (DRIVER_CONTEXT *)device->DeviceExtension;
}

FORCEINLINE DRIVER_CONTEXT *DriverContextOfFilter(_In_ const FWPS_FILTER1 *filter)
{
    return (DRIVER_CONTEXT *)(ULONG_PTR)filter->context;
}

/// TRUE at most once a second for one `next`: so that nobody can flood the log.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN DriverMayLog(_Inout_ volatile LONG64 *next);

EXTERN_C_END
