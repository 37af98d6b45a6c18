#include "connection_table.h"

// Slots of a shard's smallest array. Tables with few connections have about one in each shard.
#define SHARD_LEAST_CELLS 4u

// An array grows beyond 5/8 full: then a lookup reads fewer than two cells on average, one after the other in memory.
#define SHARD_FULL_NUMERATOR   5u
#define SHARD_FULL_DENOMINATOR 8u

// An array shrinks below 1/8 full, which is far enough from growing again.
#define SHARD_SPARSE_DENOMINATOR 8u

// Cells that cleaning looks at, and list entries that a port walk steps over, before it lets others have the lock.
#define CLEAN_BATCH_CELLS    256u
#define PORT_WALK_BATCH      64u
#define PORT_WALK_KEYS       8u
#define SHARD_INDEX_SHIFT    (64 - 10)
#define PORT_PAGE_SIZE       256u
#define CELL_FLAG_INBOUND    0x1u
#define CELL_FLAG_ENDED      0x2u
#define CELL_FLAG_REPORTED   0x4u

static_assert(CONNECTION_TABLE_SHARD_COUNT == 1u << (64 - SHARD_INDEX_SHIFT), "shards are chosen by the high bits");

// Entry of a list by port. `Previous` points to what points here, or is NULL in no list.
typedef struct _PORT_LINK
{
    struct _PORT_LINK *Next;
    struct _PORT_LINK **Previous;
    BOOLEAN IsCursor; // the place of a walk, not a connection
} PORT_LINK;

// What only the start and the end of a connection need. Stays where it is for the connection's life.
typedef struct _CONNECTION_COLD
{
    PORT_LINK Link; // only of live connections; guarded by the port stripe
    CONNECTION_KEY Key;
    UINT64 ProcessId; // guarded by the shard
} CONNECTION_COLD;

// What a packet needs: one cache line. Empty when Cold is NULL.
typedef struct _CONNECTION_CELL
{
    CONNECTION_KEY Key;
    CONNECTION_COLD *Cold;
    UINT32 Hash;           // low bits; they also choose the cell
    volatile LONG LastUse; // coarse time; written by readers too. From the end on: the time of the end
    UINT8 Verdict;
    UINT8 Flags;
    UINT8 Padding[6];
} CONNECTION_CELL;

static_assert(sizeof(CONNECTION_CELL) == PLATFORM_CACHE_LINE, "one miss a packet");

struct _CONNECTION_SHARD
{
    RW_LOCK Lock;
    UINT32 Mask; // number of cells - 1; meaningless without cells
    UINT32 Count;
    CONNECTION_CELL *Cells; // NULL: none
    UINT8 Padding[PLATFORM_CACHE_LINE - 3 * sizeof(UINT32) - 4 - sizeof(PVOID)];
};

static_assert(sizeof(CONNECTION_SHARD) == PLATFORM_CACHE_LINE, "shards must not share a line");

struct _CONNECTION_PORT_PAGE
{
    PORT_LINK *Heads[PORT_PAGE_SIZE];
};

struct _CONNECTION_PORT_STRIPE
{
    KSPIN_LOCK Lock;
    UINT8 Padding[PLATFORM_CACHE_LINE - sizeof(KSPIN_LOCK)];
};

// Seconds, which is fine enough for a minute's limits; differences are right across a wrap-around.
static UINT32 CoarseTime(VOID)
{
    return (UINT32)(KeQueryInterruptTime() / PLATFORM_TICKS_PER_SECOND);
}

static BOOLEAN KeysEqual(const CONNECTION_KEY *left, const CONNECTION_KEY *right)
{
    const UINT64 *a = (const UINT64 *)left;
    const UINT64 *b = (const UINT64 *)right;

    return ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4])) == 0;
}
