// Bandwidth: counts the payload bytes of TCP streams and UDP datagrams. Decides nothing; without it nothing else
// changes.

#pragma once

#include "platform.h"

EXTERN_C_START

struct _CONNECTION_KEY;
struct _DRIVER_CONTEXT;

/// STREAM, of both IP versions.
_IRQL_requires_max_(DISPATCH_LEVEL)
void NTAPI StreamClassify(_In_ const FWPS_INCOMING_VALUES0 *values, _In_ const FWPS_INCOMING_METADATA_VALUES0 *metadata,
                          _Inout_opt_ void *layerData, _In_opt_ const void *classifyContext,
                          _In_ const FWPS_FILTER1 *filter, _In_ UINT64 flowContext,
                          _Inout_ FWPS_CLASSIFY_OUT0 *classifyOut);

/// DATAGRAM_DATA, of both IP versions.
_IRQL_requires_max_(DISPATCH_LEVEL)
void NTAPI DatagramClassify(_In_ const FWPS_INCOMING_VALUES0 *values,
                            _In_ const FWPS_INCOMING_METADATA_VALUES0 *metadata, _Inout_opt_ void *layerData,
                            _In_opt_ const void *classifyContext, _In_ const FWPS_FILTER1 *filter,
                            _In_ UINT64 flowContext, _Inout_ FWPS_CLASSIFY_OUT0 *classifyOut);

/// Counts a datagram that goes past DATAGRAM_DATA. `length`: in bytes, with its UDP header.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID DatagramCountSent(_Inout_ struct _DRIVER_CONTEXT *context, _In_ const struct _CONNECTION_KEY *key,
                       _In_ UINT32 length);

EXTERN_C_END
