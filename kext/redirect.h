// Redirection: packets of a connection go to the client's own resolver or tunnel.
// Answers from the resolver or tunnel reach the program as if the remote end of its connection had sent them.
//
// The resolver is at the loopback address, and a packet to it gets that source address too.
// The tunnel is at the packet's own source address.
// So a redirected connection has one address at both ends, the program's local port, and one of the client's ports.
// The redirect table finds a connection's answers by this address and these ports.
// Two connections of one local port that are redirected to the same place have answers that look the same.
// Such answers go to the connection that sent last.

#pragma once

#include "inject.h"
#include "redirect_table.h"
#include "verdict.h"

EXTERN_C_START

/// Redirects the connection `original` to `port`, as `verdict` says. `target` gets the connection that it becomes.
/// The redirection is entered in the table. Both keys are from this machine's view.
/// `scope` is the scope of the target. It has no link: see ScopeTableWithoutLink.
/// STATUS_NOT_SUPPORTED: the connection has no ports, or the target no scope.
/// Any other error is the redirect table's.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS RedirectStart(_Inout_ REDIRECT_TABLE *table, _In_ UINT8 verdict, _In_ UINT16 port, _In_ UINT8 scope,
                       _In_ const CONNECTION_KEY *original, _Out_ CONNECTION_KEY *target);

/// Makes a packet, or a fragment of one, that travels in `direction` (DIRECTION) a packet of the connection `key`.
/// Addresses and ports are written, and the checksums are updated for the change (RFC 1624). Any IRQL.
/// The checksums must be complete before the call.
/// STATUS_INVALID_PARAMETER: the packet is malformed or has another IP version, and it is unchanged.
/// STATUS_INVALID_PARAMETER also: an IPv6 routing header has further stops. The packet is unchanged.
_Must_inspect_result_
NTSTATUS RedirectRewrite(_Inout_updates_bytes_(length) UINT8 *packet, _In_ UINT32 length,
                         _In_ const CONNECTION_KEY *key, _In_ UINT8 direction);

/// Calls RedirectRewrite for each copy of a chain, whose bytes no other thread reads. Returns the rewritten copies.
/// A copy that cannot be rewritten is dropped and counted as not injected.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
INJECT_PACKET *RedirectChain(_In_opt_ INJECT_PACKET *packets, _In_ const CONNECTION_KEY *key, _In_ UINT8 direction);

EXTERN_C_END
