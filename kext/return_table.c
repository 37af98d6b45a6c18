#include "return_table.h"

_Use_decl_annotations_
VOID ReturnTableInitialize(RETURN_TABLE *table)
{
    RtlZeroMemory(table, sizeof(*table));
    SipHashKeyInitialize(&table->Key);
    KeInitializeSpinLock(&table->Lock);
}

_Use_decl_annotations_
VOID ReturnTableEnable(RETURN_TABLE *table)
{
    WriteNoFence(&table->Enabled, TRUE);
}

_Use_decl_annotations_
VOID ReturnTableAdd(RETURN_TABLE *table, const UINT8 *packet, UINT32 length)
{
    RETURN_ENTRY *entry;
    UINT64 hash;
    KIRQL irql;

    if (ReadNoFence(&table->Enabled) == FALSE)
    {
        return;
    }
    hash = SipHash13(&table->Key, packet, length);
    entry = &table->Entries[hash % RETURN_TABLE_COUNT];
    KeAcquireSpinLock(&table->Lock, &irql);
    entry->Hash = hash;
    entry->Until = KeQueryInterruptTime() + RETURN_TABLE_TIME_MS * PLATFORM_TICKS_PER_MILLISECOND;
    KeReleaseSpinLock(&table->Lock, irql);
}

_Use_decl_annotations_
BOOLEAN ReturnTableTake(RETURN_TABLE *table, const UINT8 *packet, UINT32 length)
{
    UINT64 hash = SipHash13(&table->Key, packet, length);
    RETURN_ENTRY *entry = &table->Entries[hash % RETURN_TABLE_COUNT];
    BOOLEAN found;
    KIRQL irql;

    KeAcquireSpinLock(&table->Lock, &irql);
    found = entry->Hash == hash && KeQueryInterruptTime() < entry->Until;
    if (found)
    {
        entry->Until = 0;
    }
    KeReleaseSpinLock(&table->Lock, irql);
    return found;
}
