// The layers of transport data: counts the payload bytes of TCP streams and UDP datagrams, and decides nothing.

#pragma once

#include "classify.h"

EXTERN_C_START

/// STREAM, whether a client is attached or not: requests no stream action from the filter engine.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID StreamAnswer(_Inout_ CLASSIFY *classify);

/// STREAM: counts the payload bytes of a TCP connection.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID StreamClassify(_Inout_ CLASSIFY *classify);

/// DATAGRAM_DATA: counts the payload bytes of a UDP connection.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID StreamClassifyDatagram(_Inout_ CLASSIFY *classify);

EXTERN_C_END
