// Bandwidth: counts the payload bytes of TCP streams and UDP datagrams. Decides nothing; without it nothing else
// changes.

#pragma once

#include "platform.h"

EXTERN_C_START

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

EXTERN_C_END
