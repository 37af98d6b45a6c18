// Redirection: packets of a connection go to the client's own resolver or tunnel. Answers from there reach the program
// as if they came from the remote end that it asked for.
//
// The resolver is at the loopback address, and its packets come from there. The tunnel is at the packet's own source
// address. So a redirected connection has one address at both ends, the program's local port, and one of the client's
// ports. The redirect table finds its answers by these. The answers to two connections of one local port that are
// redirected to the same place look the same: they go to the connection that sent last.

#pragma once

#include "inject.h"
#include "redirect_table.h"
#include "verdict.h"

EXTERN_C_START

/// Gives what a connection becomes under a verdict that redirects it to `port`: `target`, from this machine's view as
/// `original` is. Notes it in the table. STATUS_NOT_SUPPORTED: the connection has no ports. Or the table's error.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS RedirectStart(_Inout_ REDIRECT_TABLE *table, _In_ UINT8 verdict, _In_ UINT16 port,
                       _In_ const CONNECTION_KEY *original, _Out_ CONNECTION_KEY *target);

/// Makes a packet, or one fragment of it, that travels in `direction` (DIRECTION) a packet of the connection `key`. It
/// writes addresses and ports, and updates the checksums for these (RFC 1624), so they must be complete before.
/// STATUS_INVALID_PARAMETER, with the packet unchanged: it is malformed, of another IP version, or has further stops in
/// an IPv6 routing header. Any IRQL.
_Must_inspect_result_
NTSTATUS RedirectRewrite(_Inout_updates_bytes_(length) UINT8 *packet, _In_ UINT32 length,
                         _In_ const CONNECTION_KEY *key, _In_ UINT8 direction);

/// RedirectRewrite for each copy of a chain. No other thread reads their bytes. A copy that cannot be
/// rewritten is dropped and counted as not injected. Returns the others.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
INJECT_PACKET *RedirectChain(_In_opt_ INJECT_PACKET *packets, _In_ const CONNECTION_KEY *key, _In_ UINT8 direction);

EXTERN_C_END
