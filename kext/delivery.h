// One read that is being served: which units go into it, and how they get there.
//
// Units are added in their order under the queue's lock, and copied without it.
// A read takes as many whole records as fit. Only a record that is longer than the whole buffer is split.
// Where a unit does not fit whole, its rest starts the next read.

#pragma once

#include "lanes.h"

EXTERN_C_START

typedef struct _DELIVERY
{
    PIRP Irp; ///< for the owner
    NTSTATUS Status;
    UINT32 Generation;
    BOOLEAN More;   ///< for the owner: there may be further units to add
    BOOLEAN Losses; ///< for the owner: a unit was the report of losses
    UINT32 Capacity;
    UINT32 Planned; ///< bytes of the units that were added
    UINT32 Copied;
    UINT32 Records;    ///< records whose last byte was added
    UINT32 LeftOut;    ///< first records of units that the client knows already
    LIST_ENTRY Added;  ///< LANE_RECORDs by Link, not yet copied
    LANE_RECORD *Rest; ///< the last unit, if a part of it is left; also in Added until it is copied
} DELIVERY;

/// Prepares a delivery to a buffer of `capacity` bytes. Any IRQL.
VOID DeliveryInitialize(_Out_ DELIVERY *delivery, _In_ UINT32 capacity);

/// Returns whether a unit can be added from `record->To` on, at least in part. Any IRQL.
BOOLEAN DeliveryHasRoom(_In_ const DELIVERY *delivery, _In_ const LANE_RECORD *record);

/// Adds what fits of a unit for which there is room. Any IRQL.
VOID DeliveryAdd(_Inout_ DELIVERY *delivery, _Inout_ LANE_RECORD *record);

/// Copies the next unit that was added to `buffer`, where the read starts. NULL: all are copied.
/// Returns the unit. It belongs to the caller, unless it is the rest. Any IRQL.
_Ret_maybenull_
LANE_RECORD *DeliveryCopy(_Inout_ DELIVERY *delivery, _Out_ UINT8 *buffer);

EXTERN_C_END
