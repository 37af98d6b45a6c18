// The port index of the connection table: lists of the live connections of one (protocol, IP version, local port).
//
// The lists are for the release of a port. They link cold parts.
// Hash and generation lead from a cold part to the cell of its connection.
// The index has its own locks, striped by port. A port stripe is taken after a shard, and is a leaf.

#pragma once

#include "connection_entry.h"

EXTERN_C_START

/// A local port that is given up, and which of its connections end with it.
/// Of TCP, those are the connects of its socket that never came up, and connections that ALE does not know.
/// Any other TCP connection has a closure of its own.
typedef struct _CONNECTION_RELEASE
{
    UINT8 Protocol;
    UINT8 IpVersion;
    UINT16 LocalPort;
    UINT8 LocalAddress[16]; ///< all-zero: any address
    UINT64 ProcessId;       ///< 0: any process. A connection of an unknown process ends in any case
    UINT64 EndpointHandle;  ///< of the socket; 0: any socket. A connect of an unknown socket ends in any case
    UINT64 SparedScopes[4]; ///< a bit for each scope whose connections are not of this port
} CONNECTION_RELEASE;

/// TRUE if the list that a connection belongs to has its page. Any IRQL.
BOOLEAN ConnectionPortsHasPage(_In_ const CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key);

/// Allocates the page of the list that a connection belongs to. No lock is held. FALSE: no memory.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
BOOLEAN ConnectionPortsBringPage(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *key);

/// Puts a live connection into its list, whose page exists. The caller holds the shard exclusively.
_IRQL_requires_(DISPATCH_LEVEL)
VOID ConnectionPortsLink(_Inout_ CONNECTION_TABLE *table, _In_ const SHARD_MAP *map, _In_ const CONNECTION_CELL *cell);

/// Takes a live connection out of its list. The caller holds the shard exclusively.
_IRQL_requires_(DISPATCH_LEVEL)
VOID ConnectionPortsUnlink(_Inout_ CONNECTION_TABLE *table, _In_ const SHARD_MAP *map,
                           _In_ const CONNECTION_CELL *cell);

/// Moves the cold part of a connection to another handle. The caller holds the shard exclusively.
_IRQL_requires_(DISPATCH_LEVEL)
VOID ConnectionPortsMoveCold(_Inout_ CONNECTION_TABLE *table, _In_ const SHARD_MAP *map, _Inout_ CONNECTION_CELL *cell,
                             _In_ UINT32 handle);

/// Visits the live connections that end with a local port. The visitor ends them.
/// The call may miss a connection that is added while it runs.
/// The time is proportional to the number of connections on this port, whatever the size of the table.
/// Locks are held for a few dozen entries at a time.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionPortsVisitPort(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_RELEASE *release,
                              _In_ CONNECTION_VISITOR visitor, _Inout_opt_ void *context);

/// Visits the live conversations of a protocol without ports between two addresses, such as all pings of one computer.
/// The rules of ConnectionPortsVisitPort apply. The ports of `ends` mean nothing.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionPortsVisitPortless(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_KEY *ends,
                                  _In_ CONNECTION_VISITOR visitor, _Inout_opt_ void *context);

/// Frees the pages. No connection is left in the lists, and nobody else may be using them.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionPortsFreePages(_Inout_ CONNECTION_TABLE *table);

/// Pool bytes of the pages now. Any IRQL.
UINT64 ConnectionPortsBytes(_In_ const CONNECTION_TABLE *table);

EXTERN_C_END
