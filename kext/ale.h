// The ALE layers: connections are authorized, with their process; sockets are bound, closed and released.
//
// These functions run at once on any processor. What they share is the connection table, the packet cache and the event
// queue, each with its own locks; none is held across a call into the filter engine.

#pragma once

#include "platform.h"

EXTERN_C_START

/// ALE_AUTH_CONNECT and ALE_AUTH_RECV_ACCEPT, of both IP versions: first authorization, reauthorization, and our own
/// injected packets.
_IRQL_requires_max_(DISPATCH_LEVEL)
void NTAPI AleClassifyAuthorize(_In_ const FWPS_INCOMING_VALUES0 *values,
                                _In_ const FWPS_INCOMING_METADATA_VALUES0 *metadata, _Inout_opt_ void *layerData,
                                _In_opt_ const void *classifyContext, _In_ const FWPS_FILTER1 *filter,
                                _In_ UINT64 flowContext, _Inout_ FWPS_CLASSIFY_OUT0 *classifyOut);

/// ALE_ENDPOINT_CLOSURE: one connection ended.
_IRQL_requires_max_(DISPATCH_LEVEL)
void NTAPI AleClassifyClosure(_In_ const FWPS_INCOMING_VALUES0 *values,
                              _In_ const FWPS_INCOMING_METADATA_VALUES0 *metadata, _Inout_opt_ void *layerData,
                              _In_opt_ const void *classifyContext, _In_ const FWPS_FILTER1 *filter,
                              _In_ UINT64 flowContext, _Inout_ FWPS_CLASSIFY_OUT0 *classifyOut);

/// ALE_RESOURCE_ASSIGNMENT: logged only.
_IRQL_requires_max_(DISPATCH_LEVEL)
void NTAPI AleClassifyAssignment(_In_ const FWPS_INCOMING_VALUES0 *values,
                                 _In_ const FWPS_INCOMING_METADATA_VALUES0 *metadata, _Inout_opt_ void *layerData,
                                 _In_opt_ const void *classifyContext, _In_ const FWPS_FILTER1 *filter,
                                 _In_ UINT64 flowContext, _Inout_ FWPS_CLASSIFY_OUT0 *classifyOut);

/// ALE_RESOURCE_RELEASE: all live connections of one local port ended.
_IRQL_requires_max_(DISPATCH_LEVEL)
void NTAPI AleClassifyRelease(_In_ const FWPS_INCOMING_VALUES0 *values,
                              _In_ const FWPS_INCOMING_METADATA_VALUES0 *metadata, _Inout_opt_ void *layerData,
                              _In_opt_ const void *classifyContext, _In_ const FWPS_FILTER1 *filter,
                              _In_ UINT64 flowContext, _Inout_ FWPS_CLASSIFY_OUT0 *classifyOut);

EXTERN_C_END
