// The hash map of connections for one kind of cell: a shard map for each IP version, with one quota.
//
// A cell starts with the packed key: 14 bytes of a 32-byte IPv4 cell, 38 bytes of a 64-byte IPv6 cell.
// A cell of either IP version has at least 16 bytes behind the last word of the key.

#pragma once

#include "connection_key.h"
#include "shard_map.h"

EXTERN_C_START

#define CONNECTION_CELL_BYTES_V4 32u
#define CONNECTION_CELL_BYTES_V6 64u

typedef struct _CONNECTION_MAP
{
    SHARD_QUOTA Quota;
    SHARD_MAP V4;
    SHARD_MAP V6;
} CONNECTION_MAP;

/// A connection's place in the map of its IP version.
typedef struct _CONNECTION_PLACE
{
    SHARD_PLACE In;
    SHARD_MAP *Map;
} CONNECTION_PLACE;

/// Makes an empty map of at most `most` connections. STATUS_INSUFFICIENT_RESOURCES: nothing is left to undo.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS ConnectionMapInitialize(_Out_ CONNECTION_MAP *map, _Inout_ MEMORY *memory, _In_ UINT64 most);

/// Frees everything. Nobody else may be using the map.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID ConnectionMapUninitialize(_Inout_ CONNECTION_MAP *map);

/// Pool bytes of the map now. Walks the shards.
_IRQL_requires_max_(DISPATCH_LEVEL)
UINT64 ConnectionMapBytes(_Inout_ CONNECTION_MAP *map);

/// Fills in `place` with the place where a connection belongs. Any IRQL.
FORCEINLINE VOID ConnectionMapLocate(_In_ CONNECTION_MAP *map, _In_ const CONNECTION_KEY *key,
                                     _Out_ CONNECTION_PLACE *place)
{
    ConnectionKeyPack(key, place->In.Key);
    if (key->IpVersion == 4)
    {
        place->Map = &map->V4;
        ShardMapLocate(&map->V4, &place->In, CONNECTION_KEY_WORDS_V4);
        return;
    }
    place->Map = &map->V6;
    ShardMapLocate(&map->V6, &place->In, CONNECTION_KEY_WORDS_V6);
}

/// Returns the connection's last key word in its cell, or NULL. The caller holds the shard's lock.
FORCEINLINE UINT64 *ConnectionMapFind(_In_ const CONNECTION_MAP *map, _In_ const CONNECTION_PLACE *place)
{
    UINT64 *cell;

    if (place->Map == &map->V4)
    {
        cell = ShardFind(&place->In, CONNECTION_KEY_WORDS_V4, CONNECTION_CELL_BYTES_V4);
        return cell != NULL ? cell + CONNECTION_KEY_WORDS_V4 - 1 : NULL;
    }
    cell = ShardFind(&place->In, CONNECTION_KEY_WORDS_V6, CONNECTION_CELL_BYTES_V6);
    return cell != NULL ? cell + CONNECTION_KEY_WORDS_V6 - 1 : NULL;
}

EXTERN_C_END
