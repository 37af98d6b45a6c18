// The life of an entry of the connection table: its start, its end, and its release.
//
// These functions keep an entry's port list, its cold part and its owner's share in step.
// The caller holds the lock of the entry's shard exclusively.

#pragma once

#include "connection_ports.h"

EXTERN_C_START

/// Makes a new connection of a cell that has its key and its cold part, or of a connection that ended.
/// The port list of the connection has its page.
_IRQL_requires_(DISPATCH_LEVEL)
VOID EntryLifeStart(_Inout_ CONNECTION_TABLE *table, _In_ const CONNECTION_PLACE *place, _In_ const CONNECTION_KEY *key,
                    _In_ UINT32 processId, _In_ UINT8 direction, _Inout_ CONNECTION_CELL *cell);

/// Gives a connection another owner, which gets it into its share.
_IRQL_requires_(DISPATCH_LEVEL)
VOID EntryLifeSetOwner(_Inout_ CONNECTION_TABLE *table, _Inout_ CONNECTION_CELL *cell, _In_ UINT16 owner);

/// Ends a live connection. The entry stays.
_IRQL_requires_(DISPATCH_LEVEL)
VOID EntryLifeEnd(_Inout_ CONNECTION_TABLE *table, _In_ const SHARD_MAP *map, _Inout_ CONNECTION_CELL *cell);

/// Takes away what an entry has outside of its cell. The caller removes the cell.
_IRQL_requires_(DISPATCH_LEVEL)
VOID EntryLifeRelease(_Inout_ CONNECTION_TABLE *table, _In_ const SHARD_MAP *map, _Inout_ CONNECTION_CELL *cell);

EXTERN_C_END
