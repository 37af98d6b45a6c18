// Copies of packets, and their way back into the network stack.
//
// A copy is deep, because nothing that a classify is given outlives the classify.
// One block holds the packet's bytes, the control data and all else that the injection functions need.
// Checksums are completed when the copy is made.
// The bytes of a copy are never written once another thread may read them.
// Copies are reference counted. The owner of the last reference frees the net buffer list and the block.
// Owners are the holder, the network stack during an injection, and an encoder that reads the bytes.
//
// INJECTOR.Outstanding counts the injections, and one more for the injector itself.
// InjectorUninitialize waits until Outstanding is zero.
// RefusedLock guards the list of packets that the stack refused. No other function is called under this lock.
// A refused packet has a run of deferred work call InjectResolveRefused.

#pragma once

#include "bandwidth.h"
#include "connection_table.h"
#include "deferred.h"
#include "log.h"
#include "injection_tracker.h"
#include "statistics.h"

EXTERN_C_START

typedef enum _INJECT_METHOD
{
    InjectNetworkSend,
    InjectNetworkReceive,
    InjectTransportSend,
    InjectTransportReceive
} INJECT_METHOD;

typedef enum _INJECT_CHECKSUM
{
    InjectChecksumKeep,     ///< unverified bytes from the wire, or a protocol with a checksum of its own
    InjectChecksumPacket,   ///< a whole IP packet: its IP and transport checksums
    InjectChecksumTransport ///< a TCP or UDP header and its data: the checksum over these and the pseudo header
} INJECT_CHECKSUM;

typedef enum _INJECT_ORIGIN
{
    InjectOriginStack, ///< the network or a program of this machine sent it
    InjectOriginOther, ///< another product injected it
    InjectOriginOwn    ///< this driver injected it, now or earlier on its way
} INJECT_ORIGIN;

// The most packets that wait because the stack refused them. Refused packets beyond this number are dropped.
#define INJECT_MAX_REFUSED 4096u

// After this time the fail policy decides on a refused packet.
#define INJECT_REFUSED_WAIT_MS      100u
#define INJECT_REFUSED_TOLERANCE_MS 100u

// Every packet reads the members before Padding1. Every injection writes the members behind it.
typedef struct _INJECTOR
{
    MEMORY *Memory;
    STATISTICS *Statistics;
    LOG *Log;
    DEFERRED *Deferred;
    BANDWIDTH *Bandwidth;
    HANDLE Handles[2]; ///< IPv4, IPv6
    PNDIS_GENERIC_OBJECT NdisObject;
    NDIS_HANDLE Pool;
    INJECTION_TRACKER Returns;
    UINT8 Padding1[PLATFORM_CACHE_LINE];
    volatile LONG64 Outstanding;
    KEVENT Idle;
    KSPIN_LOCK RefusedLock;
    struct _INJECT_PACKET *Refused; ///< oldest first
    struct _INJECT_PACKET **LastRefused;
    UINT64 RefusedCount;
    UINT64 RefusedBytes;
    UINT8 Padding2[PLATFORM_CACHE_LINE];
} INJECTOR;

static_assert(FIELD_OFFSET(INJECTOR, Outstanding) - FIELD_OFFSET(INJECTOR, Padding1) >= PLATFORM_CACHE_LINE,
              "the handles must not share a line with what is written");

/// What the injection of a packet needs. Pointers must be valid during InjectCopy only.
typedef struct _INJECT_SOURCE
{
    INJECT_METHOD Method;
    INJECT_CHECKSUM Checksum;
    UINT8 IpVersion;
    UINT32 HiddenLength;        ///< bytes of the packet before the data start
    UINT32 IpHeaderLength;      ///< InjectTransportReceive only, as the next: of the hidden bytes, the IP headers
    BOOLEAN Secured;            ///< IPsec has verified or decrypted the packet
    UINT8 Protocol;             ///< InjectTransportReceive and InjectChecksumTransport only
    const UINT8 *LocalAddress;  ///< 16 bytes, network order; InjectChecksumTransport only
    const UINT8 *RemoteAddress; ///< 16 bytes, network order; InjectTransportSend and InjectChecksumTransport only
    UINT8 Scope;                ///< of the connection; InjectTransportSend only
    COMPARTMENT_ID Compartment;
    IF_INDEX InterfaceIndex; ///< receive methods only, as the next
    IF_INDEX SubInterfaceIndex;
    UINT64 EndpointHandle; ///< InjectTransportSend only, as all below
    SCOPE_ID RemoteScopeId;
    const WSACMSGHDR *ControlData;
    UINT32 ControlDataLength;
    const VOID *HeaderInclude; ///< the IP header that the owner of a raw socket made
    UINT32 HeaderIncludeLength;
} INJECT_SOURCE;

typedef struct _INJECT_PACKET
{
    struct _INJECT_PACKET *Next; ///< packets that were held together go together
    INJECTOR *Injector;
    volatile LONG References;
    INJECT_METHOD Method;
    UINT8 IpVersion;
    UINT8 Protocol; ///< of a packet from above the network layer, as the next; else 0
    UINT8 Scope;
    UINT8 LocalAddress[16];  ///< network order
    UINT8 RemoteAddress[16]; ///< network order
    COMPARTMENT_ID Compartment;
    IF_INDEX InterfaceIndex;
    IF_INDEX SubInterfaceIndex;
    UINT64 EndpointHandle;
    SCOPE_ID RemoteScopeId;
    WSACMSGHDR *ControlData;
    UINT32 ControlDataLength;
    UINT8 *HeaderInclude;
    UINT32 HeaderIncludeLength;
    PMDL Mdl;
    NET_BUFFER_LIST *NetBufferList;
    UINT8 *Data;
    UINT32 Length;
    UINT32 Headroom;        ///< bytes before Data, for an IP header
    UINT32 TransportOffset; ///< where the transport header starts in a packet from the receive path; else 0
    BOOLEAN Retried;        ///< its injection failed before
} INJECT_PACKET;

/// Makes the injection handles and the pool for net buffer lists. A failure leaves nothing behind.
/// `deferred` may be initialized later, but before the first packet, and uninitialized before the injector.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS
InjectorInitialize(_Out_ INJECTOR *injector, _In_ PDRIVER_OBJECT driver, _Inout_ MEMORY *memory,
                   _In_ const CLOCK *clock, _Inout_ DEFERRED *deferred, _Inout_ BANDWIDTH *bandwidth,
                   _Inout_ STATISTICS *statistics, _Inout_ LOG *log);

/// Waits for every outstanding injection, then gives everything back. No new injection may come.
_IRQL_requires_(PASSIVE_LEVEL)
VOID InjectorUninitialize(_Inout_ INJECTOR *injector);

/// Says who put this packet into the stack.
_IRQL_requires_max_(DISPATCH_LEVEL)
INJECT_ORIGIN InjectOriginOf(_Inout_ INJECTOR *injector, _In_ UINT8 ipVersion,
                             _In_ const NET_BUFFER_LIST *netBufferList);

/// Returns TRUE if this driver injected the packet at the network layer, so that layers above it have seen it before.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN InjectComesFromNetworkLayer(_In_ const INJECTOR *injector, _In_ UINT8 ipVersion,
                                    _In_ const NET_BUFFER_LIST *netBufferList);

/// Returns TRUE if this driver injected the same packet before, so that the packet has come back.
/// `packet` is a copy of a packet that another product injected. Each injection is recognized once.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN InjectHasReturned(_Inout_ INJECTOR *injector, _In_ const INJECT_PACKET *packet);

/// Returns how the copy of a received packet treats its checksums. The stack verifies an injected packet's checksums.
/// Checksums are computed if the adapter has verified them, or if the packet never left this machine.
/// All other checksums are kept, so a damaged packet stays damaged.
INJECT_CHECKSUM InjectChecksumForInbound(_In_ const NET_BUFFER_LIST *netBufferList, _In_ BOOLEAN loopback);

/// Says whether IPsec has verified or decrypted a received packet.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN InjectIsSecured(_In_ const NET_BUFFER_LIST *netBufferList);

/// Moves the data start of `netBuffer` back over the `hidden` bytes before it.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
FORCEINLINE NTSTATUS InjectRetreat(_Inout_ NET_BUFFER *netBuffer, _In_ UINT32 hidden)
{
    return hidden != 0 ? NdisRetreatNetBufferDataStart(netBuffer, hidden, 0, NULL) : STATUS_SUCCESS;
}

/// Undoes InjectRetreat.
_IRQL_requires_max_(DISPATCH_LEVEL)
FORCEINLINE VOID InjectAdvance(_Inout_ NET_BUFFER *netBuffer, _In_ UINT32 hidden)
{
    if (hidden != 0)
    {
        NdisAdvanceNetBufferDataStart(netBuffer, hidden, FALSE, NULL);
    }
}

/// Copies the bytes of `netBuffer`, and the source->HiddenLength bytes before its data start.
/// The copy of a packet from a network layer ends where its IP header says. The copy has one reference.
/// InjectTransportReceive: the copy's IP header is made right for the injection.
/// InjectTransportReceive: if the IP header lies source->IpHeaderLength bytes before the data, only these are hidden.
/// STATUS_INSUFFICIENT_RESOURCES: there is no memory.
/// STATUS_INVALID_PARAMETER: there are no bytes, or more than 64 KiB, or a header cannot be found in them.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS InjectCopy(_Inout_ INJECTOR *injector, _In_ const INJECT_SOURCE *source, _Inout_ NET_BUFFER *netBuffer,
                    _Outptr_ INJECT_PACKET **packet);

/// Makes an outbound packet of the connection `key` a whole IP packet for the send path.
/// The caller may write the bytes of the result. It is a copy if another thread still reads the bytes of `packet`.
/// A packet from above the network layer gets a plain IP header.
/// The function takes over the reference to `packet`, but not the packets chained to it.
/// NULL: the packet was dropped, because there is no memory or it has more bytes than an IP packet may have.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
INJECT_PACKET *InjectTakeToRewrite(_Inout_ INJECT_PACKET *packet, _In_ const CONNECTION_KEY *key);

_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectReference(_Inout_ INJECT_PACKET *packet);

/// Releases one reference to `packet`. Packets chained to it keep their references.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectDereference(_Inout_ INJECT_PACKET *packet);

/// Injects a chain of packets into the stack, and takes over one reference to each.
/// The stack may refuse a packet at once or at its completion. A refused packet waits for InjectResolveRefused.
/// A packet that is refused because its socket is closed is sent at the network layer instead.
/// At most INJECT_MAX_REFUSED refused packets wait.
/// TCP packets must not be injected from within a classify of a transport layer.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectChain(_In_opt_ INJECT_PACKET *packets);

/// Decides on the packets that the stack has refused until now. With `permit`, each of them is injected once more.
/// A packet that is refused again, or is not permitted, is counted and dropped.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectResolveRefused(_Inout_ INJECTOR *injector, _In_ BOOLEAN permit);

/// Counts the packets that wait for InjectResolveRefused now, and their pool bytes.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectCountRefused(_Inout_ INJECTOR *injector, _Out_ UINT64 *count, _Out_ UINT64 *bytes);

/// Drops a chain of packets: releases one reference to each.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectDropChain(_In_opt_ INJECT_PACKET *packets);

/// Returns the end of a chain, where the next packet is linked. `last` is any link of the chain.
FORCEINLINE INJECT_PACKET **InjectChainEnd(_In_ INJECT_PACKET **last)
{
    while (*last != NULL)
    {
        last = &(*last)->Next;
    }
    return last;
}

/// Returns the pool bytes of a chain, which count against the packet cache's bound.
SIZE_T InjectChainBytes(_In_opt_ const INJECT_PACKET *packets);

EXTERN_C_END
