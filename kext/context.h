// The context: the one structure that holds all state of the driver, in the device extension.
//
// Dispatch routines reach the context through the device, callouts through the cookie in their filter.
// A cookie holds a random nonce, so a filter that another product made for a callout is recognized, and not followed.

#pragma once

#include "bandwidth.h"
#include "client.h"
#include "control_traffic.h"
#include "deferred.h"
#include "engine.h"
#include "event.h"
#include "fragment_table.h"
#include "inject.h"
#include "multicast_ports.h"
#include "packet_cache.h"
#include "pended_echoes.h"
#include "redirect.h"
#include "scope_table.h"
#include "subnets.h"
#include "system_log.h"
#include "unload_watch.h"

EXTERN_C_START

// Windows allows 256 characters in a service name.
#define DRIVER_MAX_NAME_LENGTH 256u
#define DRIVER_LINK_PREFIX     L"\\DosDevices\\"

typedef struct _DRIVER_CONTEXT
{
    PDEVICE_OBJECT DeviceObject;
    UNICODE_STRING LinkName;
    WCHAR LinkBuffer[sizeof(DRIVER_LINK_PREFIX) / sizeof(WCHAR) + DRIVER_MAX_NAME_LENGTH];
    CLOCK Clock;
    MEMORY Memory;
    STATISTICS Statistics;
    LOG Log;
    SYSTEM_LOG SystemLog;
    IO_QUEUE Queue;
    EVENTS Events;
    CONNECTION_TABLE Connections;
    SCOPE_TABLE Scopes;
    PACKET_CACHE Packets;
    FRAGMENT_TABLE Fragments;
    REDIRECT_TABLE Redirects;
    MULTICAST_PORTS MulticastPorts;
    SUBNETS Subnets;
    CONTROL_TRAFFIC ControlTraffic;
    PENDED_ECHOES PendedEchoes;
    BANDWIDTH Bandwidth;
    CLIENT Client;
    INJECTOR Injector;
    DEFERRED Deferred;              ///< of MaintenanceRound
    volatile LONG64 NextClean;      ///< ClockNow from which MaintenanceRound cleans again
    UINT64 Cookie;                  ///< a filter's context is this value exclusive-or its layer's row
    UINT32 CalloutIds[LAYER_COUNT]; ///< run-time ids, by row of Layers; 0: not registered
    ENGINE Engine;
    UNLOAD_WATCH Unload;
    PCALLBACK_OBJECT PowerCallback; ///< or NULL
    PVOID PowerRegistration;        ///< or NULL
} DRIVER_CONTEXT;

FORCEINLINE DRIVER_CONTEXT *ContextOfDevice(_In_ PDEVICE_OBJECT device)
{
    return (DRIVER_CONTEXT *)device->DeviceExtension;
}

/// Gives the context its cookie. STATUS_INSUFFICIENT_RESOURCES: too many drivers are loaded.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS
ContextRegister(_Inout_ DRIVER_CONTEXT *context);

/// The caller has unregistered the callouts, so no classify uses the cookie.
_IRQL_requires_(PASSIVE_LEVEL)
VOID ContextUnregister(_Inout_ DRIVER_CONTEXT *context);

/// Returns the context of a filter's context value, and its row of Layers. NULL: the filter is not of this driver.
/// Any IRQL.
_Ret_maybenull_
DRIVER_CONTEXT *ContextOfCookie(_In_ UINT64 cookie, _Out_ UINT32 *row);

EXTERN_C_END
