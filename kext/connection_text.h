// A connection as text, for the log. Pure functions without state; any IRQL.
//
// The text has no character that a remote party chooses.

#pragma once

#include "connection_key.h"

EXTERN_C_START

// The longest text is an inbound one of two IPv6 addresses without a run of zeros, with ports of five digits.
#define CONNECTION_TEXT_LENGTH 128

typedef struct _CONNECTION_TEXT
{
    CHAR Characters[CONNECTION_TEXT_LENGTH];
} CONNECTION_TEXT;

/// Writes the direction, the protocol, the source and the destination of a packet in `direction` (DIRECTION).
/// For example "outbound TCP 10.0.0.1:49152 -> 192.0.2.1:443". IPv6 addresses are written as in RFC 5952.
/// Ports are left out if both are 0. Without a key the text names the direction only.
/// Returns the text, which is in `text` and terminated.
const CHAR *ConnectionTextWrite(_Out_ CONNECTION_TEXT *text, _In_opt_ const CONNECTION_KEY *key, _In_ UINT8 direction);

EXTERN_C_END
