#include "delivery.h"

_Use_decl_annotations_
VOID DeliveryInitialize(DELIVERY *delivery, UINT32 capacity)
{
    RtlZeroMemory(delivery, sizeof(*delivery));
    InitializeListHead(&delivery->Added);
    delivery->Capacity = capacity;
}

// Returns the bytes that are left of the record at `record->To`, which is not the end of the unit.
static UINT32 DeliveryRecordLength(const LANE_RECORD *record)
{
    INFO_HEADER_WIRE header;

    if (record->SplitLeft != 0)
    {
        return record->SplitLeft;
    }
    RtlCopyMemory(&header, (const UINT8 *)(record + 1) + record->To, sizeof(header));
    return (UINT32)sizeof(header) + header.Length;
}

_Use_decl_annotations_
BOOLEAN DeliveryHasRoom(const DELIVERY *delivery, const LANE_RECORD *record)
{
    return delivery->Planned == 0 || record->To == record->Length ||
           DeliveryRecordLength(record) <= delivery->Capacity - delivery->Planned;
}

_Use_decl_annotations_
VOID DeliveryAdd(DELIVERY *delivery, LANE_RECORD *record)
{
    record->From = record->To;
    while (record->To < record->Length)
    {
        UINT32 length = DeliveryRecordLength(record);
        UINT32 room = delivery->Capacity - delivery->Planned;
        UINT32 part = length <= room ? length : delivery->Planned == 0 ? room : 0;

        record->To += part;
        delivery->Planned += part;
        if (part != length)
        {
            record->SplitLeft = part != 0 ? length - part : 0;
            break;
        }
        record->SplitLeft = 0;
        record->Records--;
        delivery->Records++;
    }
    delivery->Rest = record->To < record->Length ? record : NULL;
    InsertTailList(&delivery->Added, &record->Link);
}

_Use_decl_annotations_
LANE_RECORD *DeliveryCopy(DELIVERY *delivery, UINT8 *buffer)
{
    LANE_RECORD *record;

    if (IsListEmpty(&delivery->Added))
    {
        return NULL;
    }
    record = CONTAINING_RECORD(RemoveHeadList(&delivery->Added), LANE_RECORD, Link);
    RtlCopyMemory(buffer + delivery->Copied, LaneRecordBytes(record) + record->From, record->To - record->From);
    delivery->Copied += record->To - record->From;
    return record;
}
