#include "inject.h"

#include "checksum.h"
#include "ip_header.h"

// The injection context of what is sent at the network layer.
#define INJECT_CONTEXT_NETWORK_SEND ((HANDLE)(ULONG_PTR)1)

// The largest IPv6 packet that is no jumbogram: header and 65535 bytes (RFC 8200).
#define INJECT_MAX_LENGTH (40u + 65535u)

static NTSTATUS InjectorCreateHandles(INJECTOR *injector)
{
    static const UINT32 types = FWPS_INJECTION_TYPE_NETWORK | FWPS_INJECTION_TYPE_TRANSPORT;
    NTSTATUS status = FwpsInjectionHandleCreate0(AF_INET, types, &injector->Handles[0]);

    if (NT_SUCCESS(status))
    {
        status = FwpsInjectionHandleCreate0(AF_INET6, types, &injector->Handles[1]);
    }
    return status;
}

static NTSTATUS InjectorCreatePool(INJECTOR *injector, PDRIVER_OBJECT driver)
{
    NET_BUFFER_LIST_POOL_PARAMETERS parameters;

    injector->NdisObject = NdisAllocateGenericObject(driver, MEMORY_TAG, 0);
    if (injector->NdisObject == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }

    RtlZeroMemory(&parameters, sizeof(parameters));
    parameters.Header.Type = NDIS_OBJECT_TYPE_DEFAULT;
    parameters.Header.Revision = NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1;
    parameters.Header.Size = NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1;
    parameters.ProtocolId = NDIS_PROTOCOL_ID_DEFAULT;
    parameters.fAllocateNetBuffer = TRUE;
    parameters.PoolTag = MEMORY_TAG;
    injector->Pool = NdisAllocateNetBufferListPool(injector->NdisObject, &parameters);
    return injector->Pool != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

static VOID InjectorFree(INJECTOR *injector)
{
    UINT32 i;

    for (i = 0; i < RTL_NUMBER_OF(injector->Handles); i++)
    {
        if (injector->Handles[i] != NULL)
        {
            FwpsInjectionHandleDestroy0(injector->Handles[i]);
        }
    }
    if (injector->Pool != NULL)
    {
        NdisFreeNetBufferListPool(injector->Pool);
    }
    if (injector->NdisObject != NULL)
    {
        NdisFreeGenericObject(injector->NdisObject);
    }
}

_Use_decl_annotations_
NTSTATUS InjectorInitialize(INJECTOR *injector, PDRIVER_OBJECT driver, MEMORY *memory, const CLOCK *clock,
                            DEFERRED *deferred, BANDWIDTH *bandwidth, STATISTICS *statistics, LOG *log)
{
    NTSTATUS status;

    RtlZeroMemory(injector, sizeof(*injector));
    injector->Memory = memory;
    injector->Statistics = statistics;
    injector->Log = log;
    injector->Deferred = deferred;
    injector->Bandwidth = bandwidth;
    injector->Outstanding = 1;
    KeInitializeEvent(&injector->Idle, NotificationEvent, FALSE);
    KeInitializeSpinLock(&injector->RefusedLock);
    injector->LastRefused = &injector->Refused;
    InjectionTrackerInitialize(&injector->Returns, memory, clock);

    status = InjectorCreatePool(injector, driver);
    if (NT_SUCCESS(status))
    {
        status = InjectorCreateHandles(injector);
    }
    if (!NT_SUCCESS(status))
    {
        InjectorFree(injector);
    }
    return status;
}

static VOID InjectorRelease(INJECTOR *injector)
{
    if (InterlockedDecrement64(&injector->Outstanding) == 0)
    {
        KeSetEvent(&injector->Idle, IO_NETWORK_INCREMENT, FALSE);
    }
}

_Use_decl_annotations_
VOID InjectorUninitialize(INJECTOR *injector)
{
    InjectorRelease(injector);
    KeWaitForSingleObject(&injector->Idle, Executive, KernelMode, FALSE, NULL);
    // The last injections may have been refused.
    InjectResolveRefused(injector, FALSE);
    InjectionTrackerUninitialize(&injector->Returns);
    InjectorFree(injector);
}

static HANDLE InjectHandleOf(const INJECTOR *injector, UINT8 ipVersion)
{
    return injector->Handles[ipVersion == 6 ? 1 : 0];
}

static ADDRESS_FAMILY InjectFamilyOf(UINT8 ipVersion)
{
    return ipVersion == 6 ? AF_INET6 : AF_INET;
}

_Use_decl_annotations_
INJECT_ORIGIN InjectOriginOf(INJECTOR *injector, UINT8 ipVersion, const NET_BUFFER_LIST *netBufferList)
{
    switch (FwpsQueryPacketInjectionState0(InjectHandleOf(injector, ipVersion), netBufferList, NULL))
    {
    case FWPS_PACKET_INJECTED_BY_SELF:
    case FWPS_PACKET_PREVIOUSLY_INJECTED_BY_SELF:
        return InjectOriginOwn;
    case FWPS_PACKET_INJECTED_BY_OTHER:
        InjectionTrackerEnable(&injector->Returns);
        return InjectOriginOther;
    default:
        return InjectOriginStack;
    }
}

_Use_decl_annotations_
BOOLEAN InjectComesFromNetworkLayer(const INJECTOR *injector, UINT8 ipVersion, const NET_BUFFER_LIST *netBufferList)
{
    HANDLE injectionContext = NULL;
    FWPS_PACKET_INJECTION_STATE state =
        FwpsQueryPacketInjectionState0(InjectHandleOf(injector, ipVersion), netBufferList, &injectionContext);

    return (state == FWPS_PACKET_INJECTED_BY_SELF || state == FWPS_PACKET_PREVIOUSLY_INJECTED_BY_SELF) &&
           injectionContext == INJECT_CONTEXT_NETWORK_SEND;
}

_Use_decl_annotations_
BOOLEAN InjectHasReturned(INJECTOR *injector, const INJECT_PACKET *packet)
{
    return InjectionTrackerTake(&injector->Returns, packet->Data, packet->Length);
}

// ---- Copying

_Use_decl_annotations_
INJECT_CHECKSUM InjectChecksumForInbound(const NET_BUFFER_LIST *netBufferList, BOOLEAN loopback)
{
    NDIS_TCP_IP_CHECKSUM_NET_BUFFER_LIST_INFO info;

    info.Value = NET_BUFFER_LIST_INFO(netBufferList, TcpIpChecksumNetBufferListInfo);
    return loopback || info.Receive.TcpChecksumSucceeded != 0 || info.Receive.UdpChecksumSucceeded != 0
               ? InjectChecksumPacket
               : InjectChecksumKeep;
}

_Use_decl_annotations_
BOOLEAN InjectIsSecured(const NET_BUFFER_LIST *netBufferList)
{
    FWPS_PACKET_LIST_INFORMATION0 information;

    RtlZeroMemory(&information, sizeof(information));
    return NT_SUCCESS(FwpsGetPacketListSecurityInformation0(
               netBufferList, FWPS_PACKET_LIST_INFORMATION_QUERY_INBOUND | FWPS_PACKET_LIST_INFORMATION_QUERY_IPSEC,
               &information)) &&
           information.ipsecInformation.inbound.isSecure != 0;
}

static SIZE_T InjectAlignUp(SIZE_T bytes)
{
    return (bytes + 15) & ~(SIZE_T)15;
}

static VOID InjectCopyAttributes(INJECT_PACKET *packet, const INJECT_SOURCE *source)
{
    packet->Method = source->Method;
    packet->IpVersion = source->IpVersion;
    packet->Compartment = source->Compartment;
    packet->InterfaceIndex = source->InterfaceIndex;
    packet->SubInterfaceIndex = source->SubInterfaceIndex;
    packet->EndpointHandle = source->EndpointHandle;
    packet->RemoteScopeId = source->RemoteScopeId;
    if (source->RemoteAddress != NULL)
    {
        RtlCopyMemory(packet->RemoteAddress, source->RemoteAddress, sizeof(packet->RemoteAddress));
    }
    if (source->Method == InjectTransportSend && source->LocalAddress != NULL)
    {
        packet->Protocol = source->Protocol;
        packet->Scope = source->Scope;
        RtlCopyMemory(packet->LocalAddress, source->LocalAddress, sizeof(packet->LocalAddress));
    }
}

// A packet from above the network layer may get an IP header later.
static UINT32 InjectHeadroomOf(const INJECT_SOURCE *source)
{
    return source->Method == InjectTransportSend ? IpHeaderPlainLength(source->IpVersion) : 0;
}

// Lays the variable parts out behind the structure, the packet's bytes last. Copies all parts but the packet's bytes.
static VOID InjectCopyTail(INJECT_PACKET *packet, const INJECT_SOURCE *source)
{
    UINT8 *tail = (UINT8 *)packet + InjectAlignUp(sizeof(*packet));

    if (source->ControlDataLength != 0)
    {
        packet->ControlData = (WSACMSGHDR *)tail;
        packet->ControlDataLength = source->ControlDataLength;
        RtlCopyMemory(tail, source->ControlData, source->ControlDataLength);
        tail += InjectAlignUp(source->ControlDataLength);
    }
    if (source->HeaderIncludeLength != 0)
    {
        packet->HeaderInclude = tail;
        packet->HeaderIncludeLength = source->HeaderIncludeLength;
        RtlCopyMemory(tail, source->HeaderInclude, source->HeaderIncludeLength);
        tail += InjectAlignUp(source->HeaderIncludeLength);
    }
    packet->Headroom = InjectHeadroomOf(source);
    packet->Data = tail + packet->Headroom;
}

static INJECT_PACKET *InjectAllocatePacket(INJECTOR *injector, const INJECT_SOURCE *source, UINT32 length)
{
    SIZE_T bytes = InjectAlignUp(sizeof(INJECT_PACKET)) + InjectAlignUp(source->ControlDataLength) +
                   InjectAlignUp(source->HeaderIncludeLength) + InjectHeadroomOf(source) + length;
    INJECT_PACKET *packet = (INJECT_PACKET *)MemoryAllocateUninitialized(injector->Memory, bytes);

    if (packet == NULL)
    {
        return NULL;
    }
    RtlZeroMemory(packet, sizeof(*packet));
    packet->Injector = injector;
    packet->References = 1;
    packet->Length = length;
    InjectCopyAttributes(packet, source);
    InjectCopyTail(packet, source);
    return packet;
}

static NTSTATUS InjectCompleteChecksums(INJECT_PACKET *packet, const INJECT_SOURCE *source)
{
    switch (source->Checksum)
    {
    case InjectChecksumPacket:
        return ChecksumPacket(packet->Data, packet->Length);
    case InjectChecksumTransport:
        return ChecksumTransport(source->Protocol, source->LocalAddress, source->RemoteAddress, packet->Data,
                                 packet->Length);
    default:
        return STATUS_SUCCESS;
    }
}

static NTSTATUS InjectWrapBytes(INJECT_PACKET *packet)
{
    packet->Mdl = IoAllocateMdl(packet->Data - packet->Headroom, packet->Headroom + packet->Length, FALSE, FALSE, NULL);
    if (packet->Mdl == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    MmBuildMdlForNonPagedPool(packet->Mdl);
    return FwpsAllocateNetBufferAndNetBufferList0(packet->Injector->Pool, 0, 0, packet->Mdl, packet->Headroom,
                                                  packet->Length, &packet->NetBufferList);
}

// Cuts a copy's padding off: a frame may be longer than its packet, because adapters pad short frames (IEEE 802.3).
// Bytes from above the network layer must not be cut. They have no padding.
static VOID InjectCutBehindPacket(INJECT_PACKET *copy)
{
    IP_HEADER header;

    if (NT_SUCCESS(IpHeaderParse(copy->Data, copy->Length, copy->Length, &header)))
    {
        copy->Length = header.TotalLength;
    }
}

// The stack verifies the IPv4 header of an injected packet, whatever becomes of the transport checksum.
static NTSTATUS InjectRebuildHeader(INJECT_PACKET *copy, const INJECT_SOURCE *source)
{
    NTSTATUS status;

    copy->TransportOffset = source->IpHeaderLength;
    status = IpHeaderRebuild(copy->Data, &copy->Length, &copy->TransportOffset, source->Protocol, source->Secured);
    if (NT_SUCCESS(status) && copy->IpVersion == 4)
    {
        ChecksumIpv4Header(copy->Data, copy->TransportOffset);
    }
    if (source->Secured)
    {
        StatisticsAdd(copy->Injector->Statistics, StatisticCopiesSecured, 1);
    }
    return status;
}

// Makes the bytes of a copy a packet that its method injects.
static NTSTATUS InjectTrim(INJECT_PACKET *copy, const INJECT_SOURCE *source)
{
    switch (source->Method)
    {
    case InjectTransportReceive:
        return InjectRebuildHeader(copy, source);
    case InjectTransportSend:
        return STATUS_SUCCESS;
    default:
        InjectCutBehindPacket(copy);
        return STATUS_SUCCESS;
    }
}

// Finishes a copy if `status` says that its bytes were copied. A copy that cannot be finished is freed.
static NTSTATUS InjectFinish(INJECT_PACKET *copy, const INJECT_SOURCE *source, NTSTATUS status, INJECT_PACKET **packet)
{
    if (NT_SUCCESS(status))
    {
        status = InjectCompleteChecksums(copy, source);
    }
    if (NT_SUCCESS(status))
    {
        status = InjectWrapBytes(copy);
    }
    if (!NT_SUCCESS(status))
    {
        InjectDereference(copy);
        return status;
    }
    *packet = copy;
    return STATUS_SUCCESS;
}

static NTSTATUS InjectCopyBytes(INJECTOR *injector, const INJECT_SOURCE *source, NET_BUFFER *netBuffer,
                                INJECT_PACKET **packet)
{
    UINT32 length = NET_BUFFER_DATA_LENGTH(netBuffer);
    NTSTATUS status = STATUS_SUCCESS;
    INJECT_PACKET *copy;
    const VOID *bytes;

    if (length == 0 || length > INJECT_MAX_LENGTH)
    {
        return STATUS_INVALID_PARAMETER;
    }
    copy = InjectAllocatePacket(injector, source, length);
    if (copy == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }

    bytes = NdisGetDataBuffer(netBuffer, length, copy->Data, 1, 0);
    if (bytes == NULL)
    {
        status = STATUS_INSUFFICIENT_RESOURCES;
    }
    else if (bytes != copy->Data)
    {
        RtlCopyMemory(copy->Data, bytes, length);
    }
    if (NT_SUCCESS(status))
    {
        status = InjectTrim(copy, source);
    }
    return InjectFinish(copy, source, status, packet);
}

// Checks that the data start is at an IP header of the layer's version, which is as long as the layer says.
// The AH or ESP header of a secured packet counts as a part of its IP headers. STATUS_NOT_FOUND: there is none.
static NTSTATUS InjectCheckHeader(const INJECT_SOURCE *source, NET_BUFFER *netBuffer)
{
    UINT8 storage;
    const UINT8 *first = (const UINT8 *)NdisGetDataBuffer(netBuffer, sizeof(storage), &storage, 1, 0);
    UINT32 length;

    if (first == NULL)
    {
        return NET_BUFFER_DATA_LENGTH(netBuffer) == 0 ? STATUS_NOT_FOUND : STATUS_INSUFFICIENT_RESOURCES;
    }
    length = source->IpVersion == 6 ? IpHeaderPlainLength(6) : (*first & 0x0Fu) * 4u;
    if (*first >> 4 != source->IpVersion || length > source->IpHeaderLength)
    {
        return STATUS_NOT_FOUND;
    }
    return source->IpVersion == 6 || source->Secured || length == source->IpHeaderLength ? STATUS_SUCCESS
                                                                                         : STATUS_NOT_FOUND;
}

static NTSTATUS InjectCopyHidden(INJECTOR *injector, const INJECT_SOURCE *source, UINT32 hidden, NET_BUFFER *netBuffer,
                                 INJECT_PACKET **packet)
{
    NTSTATUS status = InjectRetreat(netBuffer, hidden);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    if (source->Method == InjectTransportReceive)
    {
        status = InjectCheckHeader(source, netBuffer);
    }
    if (NT_SUCCESS(status))
    {
        status = InjectCopyBytes(injector, source, netBuffer, packet);
    }
    InjectAdvance(netBuffer, hidden);
    return status;
}

// Some layers hide the IP header alone, although they give the length of a transport header (ICMP).
// A retreat beyond the first byte would allocate memory, and there is no header in it.
static NTSTATUS InjectCopyReceived(INJECTOR *injector, const INJECT_SOURCE *source, NET_BUFFER *netBuffer,
                                   INJECT_PACKET **packet)
{
    UINT32 room = NET_BUFFER_DATA_OFFSET(netBuffer);
    NTSTATUS status = STATUS_NOT_FOUND;

    if (source->HiddenLength <= room)
    {
        status = InjectCopyHidden(injector, source, source->HiddenLength, netBuffer, packet);
    }
    if (status == STATUS_NOT_FOUND && source->IpHeaderLength < source->HiddenLength && source->IpHeaderLength <= room)
    {
        status = InjectCopyHidden(injector, source, source->IpHeaderLength, netBuffer, packet);
    }
    return status == STATUS_NOT_FOUND ? STATUS_INVALID_PARAMETER : status;
}

_Use_decl_annotations_
NTSTATUS InjectCopy(INJECTOR *injector, const INJECT_SOURCE *source, NET_BUFFER *netBuffer, INJECT_PACKET **packet)
{
    *packet = NULL;
    return source->Method == InjectTransportReceive
               ? InjectCopyReceived(injector, source, netBuffer, packet)
               : InjectCopyHidden(injector, source, source->HiddenLength, netBuffer, packet);
}

static NTSTATUS InjectCopyShared(const INJECT_PACKET *packet, INJECT_PACKET **copy)
{
    INJECT_SOURCE source;
    INJECT_PACKET *made;

    RtlZeroMemory(&source, sizeof(source));
    source.Method = packet->Method;
    source.Checksum = InjectChecksumKeep;
    source.IpVersion = packet->IpVersion;
    source.Compartment = packet->Compartment;
    made = InjectAllocatePacket(packet->Injector, &source, packet->Length);
    if (made == NULL)
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    RtlCopyMemory(made->Data, packet->Data, packet->Length);
    return InjectFinish(made, &source, STATUS_SUCCESS, copy);
}

// Writes an IP header into the headroom of a packet from above the network layer.
static NTSTATUS InjectPrependHeader(INJECT_PACKET *packet, const CONNECTION_KEY *key)
{
    NTSTATUS status =
        NdisRetreatNetBufferDataStart(NET_BUFFER_LIST_FIRST_NB(packet->NetBufferList), packet->Headroom, 0, NULL);

    if (!NT_SUCCESS(status))
    {
        return status;
    }
    packet->Data -= packet->Headroom;
    packet->Length += packet->Headroom;
    packet->Headroom = 0;
    status = IpHeaderWritePlain(packet->Data, packet->Length, key);
    return NT_SUCCESS(status) ? ChecksumPacket(packet->Data, packet->Length) : status;
}

_Use_decl_annotations_
INJECT_PACKET *InjectTakeToRewrite(INJECT_PACKET *packet, const CONNECTION_KEY *key)
{
    INJECT_PACKET *taken = packet;
    NTSTATUS status = STATUS_SUCCESS;

    if (ReadAcquire(&packet->References) != 1)
    {
        status = InjectCopyShared(packet, &taken);
        InjectDereference(packet);
    }
    if (NT_SUCCESS(status) && taken->Headroom != 0)
    {
        status = InjectPrependHeader(taken, key);
        if (!NT_SUCCESS(status))
        {
            InjectDereference(taken);
        }
    }
    if (!NT_SUCCESS(status))
    {
        return NULL;
    }
    taken->Method = InjectNetworkSend;
    taken->Next = NULL;
    return taken;
}

_Use_decl_annotations_
VOID InjectReference(INJECT_PACKET *packet)
{
    InterlockedIncrement(&packet->References);
}

_Use_decl_annotations_
VOID InjectDereference(INJECT_PACKET *packet)
{
    if (InterlockedDecrement(&packet->References) != 0)
    {
        return;
    }
    if (packet->NetBufferList != NULL)
    {
        FwpsFreeNetBufferList0(packet->NetBufferList);
    }
    if (packet->Mdl != NULL)
    {
        IoFreeMdl(packet->Mdl);
    }
    MemoryFree(packet->Injector->Memory, packet);
}

// ---- Packets that could not be injected

static NTSTATUS InjectTry(INJECT_PACKET *packet);

static SIZE_T InjectBytesOf(const INJECT_PACKET *packet)
{
    return sizeof(*packet) + packet->ControlDataLength + packet->HeaderIncludeLength + packet->Length;
}

// Keeps a refused packet for InjectResolveRefused. Returns FALSE if too many packets wait already.
static BOOLEAN InjectKeepRefused(INJECT_PACKET *packet)
{
    INJECTOR *injector = packet->Injector;
    BOOLEAN kept;
    KIRQL irql;

    packet->Next = NULL;
    KeAcquireSpinLock(&injector->RefusedLock, &irql);
    kept = injector->RefusedCount < INJECT_MAX_REFUSED;
    if (kept)
    {
        *injector->LastRefused = packet;
        injector->LastRefused = &packet->Next;
        injector->RefusedCount++;
        injector->RefusedBytes += (LONG64)InjectBytesOf(packet);
    }
    KeReleaseSpinLock(&injector->RefusedLock, irql);
    return kept;
}

_Use_decl_annotations_
VOID InjectCountRefused(INJECTOR *injector, UINT64 *count, UINT64 *bytes)
{
    KIRQL irql;

    KeAcquireSpinLock(&injector->RefusedLock, &irql);
    *count = injector->RefusedCount;
    *bytes = injector->RefusedBytes;
    KeReleaseSpinLock(&injector->RefusedLock, irql);
}

// Returns whether the network layer can send a packet of an endpoint instead.
// Its source must be known. The owner of a raw socket has made an IP header of its own.
static BOOLEAN InjectMayBypassEndpoint(const INJECT_PACKET *packet)
{
    static const UINT8 unspecified[16];

    return packet->Method == InjectTransportSend && packet->HeaderIncludeLength == 0 &&
           !RtlEqualMemory(packet->LocalAddress, unspecified, sizeof(unspecified));
}

static VOID InjectKeyOf(const INJECT_PACKET *packet, CONNECTION_KEY *key)
{
    RtlZeroMemory(key, sizeof(*key));
    key->IpVersion = packet->IpVersion;
    key->Protocol = packet->Protocol;
    key->Scope = packet->Scope;
    if (ConnectionKeyHasPorts(key))
    {
        key->LocalPort = (UINT16)(packet->Data[0] << 8 | packet->Data[1]);
        key->RemotePort = (UINT16)(packet->Data[2] << 8 | packet->Data[3]);
    }
    RtlCopyMemory(key->LocalAddress, packet->LocalAddress, sizeof(key->LocalAddress));
    RtlCopyMemory(key->RemoteAddress, packet->RemoteAddress, sizeof(key->RemoteAddress));
}

// Sends a packet at the network layer, because its endpoint refused it: the socket is closed, for example.
// A datagram is counted here, because its way bypasses DATAGRAM_DATA. The packet is taken over.
static INJECT_PACKET *InjectBypassEndpoint(INJECT_PACKET *packet, NTSTATUS *status)
{
    INJECTOR *injector = packet->Injector;
    UINT32 length = packet->Length;
    CONNECTION_KEY key;

    InjectKeyOf(packet, &key);
    LogTrace(injector->Log, "sent at the network layer: IPv%u packet of %u bytes, its endpoint: status 0x%08x",
             packet->IpVersion, length, (unsigned)*status);
    packet = InjectTakeToRewrite(packet, &key);
    if (packet == NULL)
    {
        StatisticsAdd(injector->Statistics, StatisticInjectFailures, 1);
        return NULL;
    }
    if (key.Protocol == PROTOCOL_UDP && length > UDP_HEADER_LENGTH)
    {
        BandwidthCount(injector->Bandwidth, &key, FALSE, length - UDP_HEADER_LENGTH);
    }
    *status = InjectTry(packet);
    return packet;
}

// Handles a packet that the stack refused. The fail policy decides on it once; after a second refusal it is dropped.
static VOID InjectRefuse(INJECT_PACKET *packet, NTSTATUS status)
{
    INJECTOR *injector = packet->Injector;

    if (InjectMayBypassEndpoint(packet))
    {
        packet = InjectBypassEndpoint(packet, &status);
        if (packet == NULL || NT_SUCCESS(status))
        {
            return;
        }
    }
    LogTrace(injector->Log, "%s: IPv%u packet of %u bytes: status 0x%08x",
             packet->Retried ? "dropped, not injected by the fail policy" : "refused by the network stack",
             packet->IpVersion, packet->Length, (unsigned)status);
    if (!packet->Retried && InjectKeepRefused(packet))
    {
        DeferredRunAfter(injector->Deferred, INJECT_REFUSED_WAIT_MS, INJECT_REFUSED_TOLERANCE_MS);
        return;
    }
    StatisticsAdd(injector->Statistics, StatisticInjectFailures, 1);
    if (LogMayRepeat(injector->Log, LogLimitInjection))
    {
        LogWarning(injector->Log, "A packet that was let go could not be injected: status 0x%08x", (unsigned)status);
    }
    InjectDereference(packet);
}

// ---- Injection

static VOID NTAPI InjectComplete(void *context, NET_BUFFER_LIST *netBufferList, BOOLEAN dispatchLevel)
{
    INJECT_PACKET *packet = (INJECT_PACKET *)context;
    NTSTATUS status = NET_BUFFER_LIST_STATUS(netBufferList);
    INJECTOR *injector = packet->Injector;

    UNREFERENCED_PARAMETER(dispatchLevel);
    if (NT_SUCCESS(status))
    {
        StatisticsAdd(injector->Statistics, StatisticPacketsInjected, 1);
        InjectDereference(packet);
    }
    else
    {
        NET_BUFFER_LIST_STATUS(netBufferList) = STATUS_SUCCESS;
        InjectRefuse(packet, status);
    }
    InjectorRelease(injector);
}

static NTSTATUS InjectIntoTransportSend(INJECT_PACKET *packet)
{
    FWPS_TRANSPORT_SEND_PARAMS1 parameters;

    RtlZeroMemory(&parameters, sizeof(parameters));
    parameters.remoteAddress = packet->RemoteAddress;
    parameters.remoteScopeId = packet->RemoteScopeId;
    parameters.controlData = packet->ControlData;
    parameters.controlDataLength = packet->ControlDataLength;
    parameters.headerIncludeHeader = packet->HeaderInclude;
    parameters.headerIncludeHeaderLength = packet->HeaderIncludeLength;
    return FwpsInjectTransportSendAsync1(InjectHandleOf(packet->Injector, packet->IpVersion), NULL,
                                         packet->EndpointHandle, 0, &parameters, InjectFamilyOf(packet->IpVersion),
                                         packet->Compartment, packet->NetBufferList, InjectComplete, packet);
}

static NTSTATUS InjectCall(INJECT_PACKET *packet)
{
    HANDLE handle = InjectHandleOf(packet->Injector, packet->IpVersion);

    switch (packet->Method)
    {
    case InjectNetworkSend:
        return FwpsInjectNetworkSendAsync0(handle, INJECT_CONTEXT_NETWORK_SEND, 0, packet->Compartment,
                                           packet->NetBufferList, InjectComplete, packet);
    case InjectNetworkReceive:
        return FwpsInjectNetworkReceiveAsync0(handle, NULL, 0, packet->Compartment, packet->InterfaceIndex,
                                              packet->SubInterfaceIndex, packet->NetBufferList, InjectComplete, packet);
    case InjectTransportReceive:
        return FwpsInjectTransportReceiveAsync0(handle, NULL, NULL, 0, InjectFamilyOf(packet->IpVersion),
                                                packet->Compartment, packet->InterfaceIndex, packet->SubInterfaceIndex,
                                                packet->NetBufferList, InjectComplete, packet);
    default:
        return InjectIntoTransportSend(packet);
    }
}

static NTSTATUS InjectTry(INJECT_PACKET *packet)
{
    INJECTOR *injector = packet->Injector;
    NTSTATUS status;

    if (packet->Method == InjectNetworkSend || packet->Method == InjectNetworkReceive)
    {
        InjectionTrackerAdd(&injector->Returns, packet->Data, packet->Length);
    }
    InterlockedIncrement64(&injector->Outstanding);
    status = InjectCall(packet);
    if (!NT_SUCCESS(status))
    {
        // The completion function is not called after a failure.
        InjectorRelease(injector);
    }
    return status;
}

static VOID InjectAll(INJECT_PACKET *packets, BOOLEAN retried, BOOLEAN permit)
{
    while (packets != NULL)
    {
        INJECT_PACKET *next = packets->Next;
        NTSTATUS status;

        packets->Retried = retried;
        status = permit ? InjectTry(packets) : STATUS_CANCELLED;
        if (!NT_SUCCESS(status))
        {
            InjectRefuse(packets, status);
        }
        packets = next;
    }
}

_Use_decl_annotations_
VOID InjectChain(INJECT_PACKET *packets)
{
    InjectAll(packets, FALSE, TRUE);
}

_Use_decl_annotations_
VOID InjectResolveRefused(INJECTOR *injector, BOOLEAN permit)
{
    INJECT_PACKET *packets;
    KIRQL irql;

    KeAcquireSpinLock(&injector->RefusedLock, &irql);
    packets = injector->Refused;
    injector->Refused = NULL;
    injector->LastRefused = &injector->Refused;
    injector->RefusedCount = 0;
    injector->RefusedBytes = 0;
    KeReleaseSpinLock(&injector->RefusedLock, irql);
    InjectAll(packets, TRUE, permit);
}

_Use_decl_annotations_
VOID InjectDropChain(INJECT_PACKET *packets)
{
    while (packets != NULL)
    {
        INJECT_PACKET *next = packets->Next;

        InjectDereference(packets);
        packets = next;
    }
}

_Use_decl_annotations_
SIZE_T InjectChainBytes(const INJECT_PACKET *packets)
{
    SIZE_T bytes = 0;

    for (; packets != NULL; packets = packets->Next)
    {
        bytes += InjectBytesOf(packets);
    }
    return bytes;
}
