// The layers of transport data: counts the payload bytes of TCP streams and UDP datagrams, and decides nothing.

#pragma once

#include "classify.h"

EXTERN_C_START

/// STREAM, whether a client is attached or not: asks the filter engine for nothing.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID StreamAnswer(_Inout_ CLASSIFY *classify);

/// STREAM.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID StreamClassify(_Inout_ CLASSIFY *classify);

/// DATAGRAM_DATA.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID StreamClassifyDatagram(_Inout_ CLASSIFY *classify);

EXTERN_C_END
