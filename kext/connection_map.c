#include "connection_map.h"

_Use_decl_annotations_
NTSTATUS ConnectionMapInitialize(CONNECTION_MAP *map, MEMORY *memory, UINT64 most)
{
    NTSTATUS status;

    map->Quota.Most = (LONG64)most;
    map->Quota.Count = 0;
    status = ShardMapInitialize(&map->V4, memory, &map->Quota, CONNECTION_KEY_WORDS_V4, CONNECTION_CELL_BYTES_V4);
    if (!NT_SUCCESS(status))
    {
        return status;
    }
    status = ShardMapInitialize(&map->V6, memory, &map->Quota, CONNECTION_KEY_WORDS_V6, CONNECTION_CELL_BYTES_V6);
    if (!NT_SUCCESS(status))
    {
        ShardMapUninitialize(&map->V4);
    }
    return status;
}

_Use_decl_annotations_
VOID ConnectionMapUninitialize(CONNECTION_MAP *map)
{
    ShardMapUninitialize(&map->V6);
    ShardMapUninitialize(&map->V4);
}

_Use_decl_annotations_
UINT64 ConnectionMapBytes(CONNECTION_MAP *map)
{
    return ShardMapBytes(&map->V4) + ShardMapBytes(&map->V6);
}
