// The context: the one structure that holds all state of the driver, in the device extension.
//
// There are no globals. Dispatch routines reach the context through the device, callouts through their filter.

#pragma once

#include "bandwidth.h"
#include "client.h"
#include "deferred.h"
#include "engine.h"
#include "event.h"
#include "fragment_table.h"
#include "inject.h"
#include "packet_cache.h"
#include "redirect.h"

EXTERN_C_START

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
    CLIENT Client;
    INJECTOR Injector;
    DEFERRED Deferred;
    volatile LONG64 NextClean;      ///< KeQueryInterruptTime from which MaintenanceRound cleans again
    UINT32 CalloutIds[LAYER_COUNT]; ///< run-time ids, by row of Layers
    ENGINE Engine;
    PCALLBACK_OBJECT PowerCallback; ///< or NULL
    PVOID PowerRegistration;        ///< or NULL
} DRIVER_CONTEXT;

FORCEINLINE DRIVER_CONTEXT *ContextOfDevice(_In_ PDEVICE_OBJECT device)
{
    return (DRIVER_CONTEXT *)device->DeviceExtension;
}

FORCEINLINE DRIVER_CONTEXT *ContextOfFilter(_In_ const FWPS_FILTER1 *filter)
{
    return (DRIVER_CONTEXT *)(ULONG_PTR)filter->context;
}

EXTERN_C_END
