// Copies of packets, and their way back into the network stack.
//
// A copy is deep: one block holds the packet's bytes, the control data and all that the injection functions want to
// know, because nothing of what a classify is given outlives it. Checksums are completed when the copy is made, and its
// bytes are never written once others may read them. Copies are reference counted: whoever holds the last reference
// (the holder, the network stack during an injection, or an encoder that still reads the bytes) frees the net buffer
// list and the block.
//
// Outstanding counts injections, with one more for the injector itself, and InjectorUninitialize waits for it to reach
// zero. The one lock guards the list of packets that the stack refused; no other function is called under it.

#pragma once

#include "connection_table.h"
#include "log.h"
#include "return_table.h"
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
    InjectChecksumKeep,     ///< bytes from the wire that nobody has verified: the stack will
    InjectChecksumPacket,   ///< a whole IP packet: its IP and transport checksums
    InjectChecksumTransport ///< starts at a TCP or UDP header: the checksum over it and the pseudo header
} INJECT_CHECKSUM;

typedef enum _INJECT_ORIGIN
{
    InjectOriginStack, ///< the network, or a program of this machine
    InjectOriginOther, ///< another product injected it
    InjectOriginOwn    ///< we injected it, now or earlier on its way
} INJECT_ORIGIN;

// Packets that wait because the stack refused them; those beyond are dropped.
#define INJECT_MAX_REFUSED 4096u

// Every packet reads the first part; every injection writes the second.
typedef struct _INJECTOR
{
    MEMORY *Memory;
    STATISTICS *Statistics;
    LOG *Log;
    HANDLE Handles[2]; ///< IPv4, IPv6
    PNDIS_GENERIC_OBJECT NdisObject;
    NDIS_HANDLE Pool;
    RETURN_TABLE Returns;
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

/// What is to be known of a packet for its injection. Pointers need to be valid during InjectCopy only.
typedef struct _INJECT_SOURCE
{
    INJECT_METHOD Method;
    INJECT_CHECKSUM Checksum;
    UINT8 IpVersion;
    UINT8 Protocol;             ///< InjectChecksumTransport only
    const UINT8 *LocalAddress;  ///< 16 bytes, network order; InjectChecksumTransport only
    const UINT8 *RemoteAddress; ///< 16 bytes, network order; InjectTransportSend and InjectChecksumTransport only
    COMPARTMENT_ID Compartment;
    IF_INDEX InterfaceIndex; ///< receive methods only, as the next
    IF_INDEX SubInterfaceIndex;
    UINT64 EndpointHandle; ///< InjectTransportSend only, as all below
    SCOPE_ID RemoteScopeId;
    const WSACMSGHDR *ControlData;
    UINT32 ControlDataLength;
    const VOID *HeaderInclude; ///< the IP header that a raw socket's owner made
    UINT32 HeaderIncludeLength;
} INJECT_SOURCE;

typedef struct _INJECT_PACKET
{
    struct _INJECT_PACKET *Next; ///< packets that were held together go together
    INJECTOR *Injector;
    volatile LONG References;
    INJECT_METHOD Method;
    UINT8 IpVersion;
    UINT8 RemoteAddress[16];
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
    UINT32 Headroom; ///< bytes before Data, for an IP header
    BOOLEAN Retried; ///< its injection has failed before
} INJECT_PACKET;

/// Makes the injection handles and the pool for net buffer lists. After a failure InjectorUninitialize is allowed and
/// nothing else.
_IRQL_requires_(PASSIVE_LEVEL)
_Must_inspect_result_
NTSTATUS InjectorInitialize(_Out_ INJECTOR *injector, _In_ PDRIVER_OBJECT driver, _Inout_ MEMORY *memory,
                            _Inout_ STATISTICS *statistics, _Inout_ LOG *log);

/// Waits for every outstanding injection, then gives everything back. No new injection may come.
_IRQL_requires_(PASSIVE_LEVEL)
VOID InjectorUninitialize(_Inout_ INJECTOR *injector);

/// Who put this packet into the stack.
_IRQL_requires_max_(DISPATCH_LEVEL)
INJECT_ORIGIN InjectOriginOf(_Inout_ INJECTOR *injector, _In_ UINT8 ipVersion,
                             _In_ const NET_BUFFER_LIST *netBufferList);

/// Whether a packet of another product's, of which `packet` is a copy, is one that we injected lately and that has come
/// back: once TRUE for each.
_IRQL_requires_max_(DISPATCH_LEVEL)
BOOLEAN InjectHasReturned(_Inout_ INJECTOR *injector, _In_ const INJECT_PACKET *packet);

/// How the checksums of a received packet have to be treated in its copy. Those that the adapter has verified, or that
/// were never computed because the packet did not leave this machine, are not seen to be right by the stack any more
/// once the packet is injected: they are computed. All others are kept, so that a damaged packet stays a damaged one.
INJECT_CHECKSUM InjectChecksumForInbound(_In_ const NET_BUFFER_LIST *netBufferList, _In_ BOOLEAN loopback);

/// Copies what `netBuffer` holds from its data start on, up to the end of the packet if that starts with an IP header.
/// The copy has one reference. STATUS_INSUFFICIENT_RESOURCES, or STATUS_INVALID_PARAMETER for no bytes, more than 64
/// KiB, or bytes whose checksum cannot be found.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
NTSTATUS InjectCopy(_Inout_ INJECTOR *injector, _In_ const INJECT_SOURCE *source, _Inout_ NET_BUFFER *netBuffer,
                    _Outptr_ INJECT_PACKET **packet);

/// Makes an outbound packet of the TCP or UDP connection `key` one whose bytes may be written: a whole IP packet for
/// the send path, whatever layer it was taken from (one from above the network layer gets a plain IP header), and a
/// copy if somebody else still reads the bytes. Takes over the reference to `packet`, but not what is chained to it.
/// NULL: no memory, or more bytes than an IP packet may have; then it was dropped.
_IRQL_requires_max_(DISPATCH_LEVEL)
_Must_inspect_result_
_Ret_maybenull_
INJECT_PACKET *InjectTakeToRewrite(_Inout_ INJECT_PACKET *packet, _In_ const CONNECTION_KEY *key);

_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectReference(_Inout_ INJECT_PACKET *packet);

/// Gives one reference to one packet back (not to those chained to it).
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectDereference(_Inout_ INJECT_PACKET *packet);

/// Lets a chain of packets go back into the stack: takes over one reference to each. A packet that the stack refuses,
/// at once or when it completes, waits for InjectResolveRefused, up to INJECT_MAX_REFUSED of them. TCP packets must not
/// be injected from within a classify of a transport layer.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectChain(_In_opt_ INJECT_PACKET *packets);

/// Decides over the packets that the stack has refused until now: with `permit` they are tried once more. One that is
/// refused again, or not permitted, is counted and dropped.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectResolveRefused(_Inout_ INJECTOR *injector, _In_ BOOLEAN permit);

/// Packets that wait for InjectResolveRefused now, and their pool bytes.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectCountRefused(_Inout_ INJECTOR *injector, _Out_ UINT64 *count, _Out_ UINT64 *bytes);

/// Drops a chain of packets: gives one reference to each back.
_IRQL_requires_max_(DISPATCH_LEVEL)
VOID InjectDropChain(_In_opt_ INJECT_PACKET *packets);

/// Pool bytes of a chain, for the packet cache's bound.
SIZE_T InjectChainBytes(_In_opt_ const INJECT_PACKET *packets);

EXTERN_C_END
