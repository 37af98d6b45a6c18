// The classify-time functions of fwpkclnt.sys.

#include "engine_state.h"
#include "ip_header.h"
#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/driver_call.h"
#include "nt/irql.h"
#include "offloads.h"

#include <algorithm>

namespace
{

using sim::Bugcheck;
using sim::wfp::ClassifyFrame;
using sim::wfp::EngineState;
using sim::wfp::Injection;
using sim::wfp::Injections;
using sim::wfp::LayerKind;

EngineState &EnterAtDispatch(const char *function)
{
    EngineState &engine = EngineState::Current();

    sim::nt::RequireIrqlAtMost(DISPATCH_LEVEL, function);
    sim::nt::RequireStack(function);
    engine.RequireNothingHeld(function);
    return engine;
}

EngineState &EnterPassive(const char *function)
{
    EngineState &engine = EngineState::Current();

    sim::nt::RequireIrqlAtMost(PASSIVE_LEVEL, function);
    engine.RequireNothingHeld(function);
    return engine;
}

// The network stack holds the connection's lock during these classifies.
void RequireNoTcpClassify(const EngineState &engine, const char *function)
{
    const ClassifyFrame *frame = ClassifyFrame::Find(engine);

    if (frame == nullptr || frame->layer.kind != LayerKind::kAuthorization)
    {
        return;
    }
    const FWP_VALUE0 &protocol = frame->input.values->incomingValue[frame->layer.protocol_field].value;

    if (protocol.type == FWP_UINT8 && protocol.uint8 == IPPROTO_TCP)
    {
        Bugcheck("WFP_INLINE_TCP_INJECTION", "%s was called inside a classify of TCP at %s: it must be deferred",
                 function, frame->layer.name);
    }
}

size_t AddressLength(ADDRESS_FAMILY family)
{
    return family == AF_INET6 ? 16 : 4;
}

} // namespace

NTSTATUS NTAPI FwpsCalloutRegister2(void *deviceObject, const FWPS_CALLOUT2 *callout, UINT32 *calloutId)
{
    EngineState &engine = EnterPassive(__func__);

    if (deviceObject == nullptr || callout == nullptr || callout->classifyFn == nullptr ||
        callout->notifyFn == nullptr ||
        (callout->flags & ~sim::wfp::KnownCalloutFlags(engine.machine.options().windows_build)) != 0)
    {
        return STATUS_INVALID_PARAMETER;
    }
    return engine.FaultInjected() ? STATUS_INSUFFICIENT_RESOURCES
                                  : engine.management.RegisterCallout(callout, calloutId);
}

NTSTATUS NTAPI FwpsCalloutUnregisterById0(const UINT32 calloutId)
{
    EngineState &engine = EnterPassive(__func__);

    if (ClassifyFrame::Find(engine) != nullptr)
    {
        return STATUS_DEVICE_BUSY;
    }

    const NTSTATUS fault = engine.FaultInjected() ? engine.management.TakeUnregisterFault(calloutId) : STATUS_SUCCESS;

    return NT_SUCCESS(fault) ? engine.management.UnregisterCallout(calloutId) : fault;
}

NTSTATUS NTAPI FwpsPendOperation0(HANDLE completionHandle, HANDLE *completionContext)
{
    EngineState &engine = EnterAtDispatch(__func__);

    if (completionContext == nullptr)
    {
        return STATUS_INVALID_PARAMETER;
    }
    return engine.FaultInjected() ? STATUS_INSUFFICIENT_RESOURCES : engine.Pend(completionHandle, completionContext);
}

void NTAPI FwpsCompleteOperation0(HANDLE completionContext, PNET_BUFFER_LIST netBufferList)
{
    EnterAtDispatch(__func__).pended.Complete(completionContext, netBufferList);
}

NTSTATUS NTAPI FwpsFlowAbort0(UINT64 flowId)
{
    EngineState &engine = EnterAtDispatch(__func__);

    return engine.FaultInjected() ? STATUS_INSUFFICIENT_RESOURCES : engine.AbortFlow(flowId);
}

NTSTATUS NTAPI FwpsInjectionHandleCreate0(ADDRESS_FAMILY addressFamily, UINT32 flags, HANDLE *injectionHandle)
{
    EngineState &engine = EnterPassive(__func__);

    return engine.FaultInjected() ? STATUS_INSUFFICIENT_RESOURCES
                                  : engine.injections.CreateHandle(addressFamily, flags, injectionHandle);
}

NTSTATUS NTAPI FwpsInjectionHandleDestroy0(HANDLE injectionHandle)
{
    return EnterPassive(__func__).injections.DestroyHandle(injectionHandle);
}

FWPS_PACKET_INJECTION_STATE NTAPI FwpsQueryPacketInjectionState0(HANDLE injectionHandle,
                                                                 const NET_BUFFER_LIST *netBufferList,
                                                                 HANDLE *injectionContext)
{
    EnterAtDispatch(__func__);
    return Injections::Query(injectionHandle, netBufferList, injectionContext);
}

NTSTATUS NTAPI FwpsInjectNetworkSendAsync0(HANDLE injectionHandle, HANDLE injectionContext, UINT32 flags,
                                           COMPARTMENT_ID compartmentId, NET_BUFFER_LIST *netBufferList,
                                           FWPS_INJECT_COMPLETE0 completionFn, HANDLE completionContext)
{
    EngineState &engine = EnterAtDispatch(__func__);
    Injection injection;

    if (flags != 0)
    {
        return STATUS_INVALID_PARAMETER;
    }
    if (engine.FaultInjected())
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    injection.kind = Injection::kNetworkSend;
    injection.compartment = compartmentId;
    return engine.injections.Inject(injectionHandle, injectionContext, FWPS_INJECTION_TYPE_NETWORK, injection,
                                    netBufferList, completionFn, completionContext);
}

NTSTATUS NTAPI FwpsInjectNetworkReceiveAsync0(HANDLE injectionHandle, HANDLE injectionContext, UINT32 flags,
                                              COMPARTMENT_ID compartmentId, IF_INDEX interfaceIndex,
                                              IF_INDEX subInterfaceIndex, NET_BUFFER_LIST *netBufferList,
                                              FWPS_INJECT_COMPLETE0 completionFn, HANDLE completionContext)
{
    EngineState &engine = EnterAtDispatch(__func__);
    Injection injection;

    if (flags != 0)
    {
        return STATUS_INVALID_PARAMETER;
    }
    if (engine.FaultInjected())
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    injection.kind = Injection::kNetworkReceive;
    injection.compartment = compartmentId;
    injection.interface_index = interfaceIndex;
    injection.sub_interface_index = subInterfaceIndex;
    return engine.injections.Inject(injectionHandle, injectionContext, FWPS_INJECTION_TYPE_NETWORK, injection,
                                    netBufferList, completionFn, completionContext);
}

NTSTATUS NTAPI FwpsInjectTransportSendAsync1(HANDLE injectionHandle, HANDLE injectionContext, UINT64 endpointHandle,
                                             UINT32 flags, FWPS_TRANSPORT_SEND_PARAMS1 *sendArgs,
                                             ADDRESS_FAMILY addressFamily, COMPARTMENT_ID compartmentId,
                                             NET_BUFFER_LIST *netBufferList, FWPS_INJECT_COMPLETE0 completionFn,
                                             HANDLE completionContext)
{
    EngineState &engine = EnterAtDispatch(__func__);
    Injection injection;

    RequireNoTcpClassify(engine, __func__);
    if (flags != 0 || (addressFamily != AF_INET && addressFamily != AF_INET6))
    {
        return STATUS_INVALID_PARAMETER;
    }
    if (engine.FaultInjected())
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    injection.kind = Injection::kTransportSend;
    injection.family = addressFamily;
    injection.compartment = compartmentId;
    injection.endpoint_handle = endpointHandle;
    if (sendArgs != nullptr)
    {
        if (sendArgs->remoteAddress != nullptr)
        {
            std::copy_n(sendArgs->remoteAddress, AddressLength(addressFamily), injection.remote_address.begin());
        }
        injection.remote_scope = sendArgs->remoteScopeId;
        injection.control_data = sendArgs->controlData;
        injection.control_data_length = sendArgs->controlDataLength;
        injection.header_include = sendArgs->headerIncludeHeader;
        injection.header_include_length = sendArgs->headerIncludeHeaderLength;
    }
    return engine.injections.Inject(injectionHandle, injectionContext, FWPS_INJECTION_TYPE_TRANSPORT, injection,
                                    netBufferList, completionFn, completionContext);
}

NTSTATUS NTAPI FwpsInjectTransportReceiveAsync0(HANDLE injectionHandle, HANDLE injectionContext, PVOID reserved,
                                                UINT32 flags, ADDRESS_FAMILY addressFamily,
                                                COMPARTMENT_ID compartmentId, IF_INDEX interfaceIndex,
                                                IF_INDEX subInterfaceIndex, NET_BUFFER_LIST *netBufferList,
                                                FWPS_INJECT_COMPLETE0 completionFn, HANDLE completionContext)
{
    EngineState &engine = EnterAtDispatch(__func__);
    Injection injection;

    RequireNoTcpClassify(engine, __func__);
    if (flags != 0 || reserved != nullptr || (addressFamily != AF_INET && addressFamily != AF_INET6))
    {
        return STATUS_INVALID_PARAMETER;
    }
    if (engine.FaultInjected())
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    injection.kind = Injection::kTransportReceive;
    injection.family = addressFamily;
    injection.compartment = compartmentId;
    injection.interface_index = interfaceIndex;
    injection.sub_interface_index = subInterfaceIndex;
    return engine.injections.Inject(injectionHandle, injectionContext, FWPS_INJECTION_TYPE_TRANSPORT, injection,
                                    netBufferList, completionFn, completionContext);
}

NTSTATUS NTAPI FwpsAllocateNetBufferAndNetBufferList0(NDIS_HANDLE poolHandle, USHORT contextSize,
                                                      USHORT contextBackFill, MDL *mdlChain, ULONG dataOffset,
                                                      SIZE_T dataLength, NET_BUFFER_LIST **netBufferList)
{
    EngineState &engine = EnterAtDispatch(__func__);

    return engine.lists.Allocate(ClassifyFrame::Find(engine), poolHandle, contextSize, contextBackFill, mdlChain,
                                 dataOffset, dataLength, netBufferList);
}

void NTAPI FwpsFreeNetBufferList0(NET_BUFFER_LIST *netBufferList)
{
    EnterAtDispatch(__func__).lists.Free(netBufferList, __func__, false);
}

NTSTATUS NTAPI FwpsAllocateCloneNetBufferList0(NET_BUFFER_LIST *originalNetBufferList,
                                               NDIS_HANDLE netBufferListPoolHandle, NDIS_HANDLE, ULONG,
                                               NET_BUFFER_LIST **netBufferList)
{
    EngineState &engine = EnterAtDispatch(__func__);

    return engine.lists.Clone(ClassifyFrame::Find(engine), originalNetBufferList, netBufferListPoolHandle,
                              netBufferList);
}

void NTAPI FwpsFreeCloneNetBufferList0(NET_BUFFER_LIST *netBufferList, ULONG)
{
    EnterAtDispatch(__func__).lists.Free(netBufferList, __func__, true);
}

void NTAPI FwpsReferenceNetBufferList0(NET_BUFFER_LIST *netBufferList, BOOLEAN)
{
    EnterAtDispatch(__func__).lists.Reference(netBufferList);
}

void NTAPI FwpsDereferenceNetBufferList0(NET_BUFFER_LIST *netBufferList, BOOLEAN dispatchLevel)
{
    if (dispatchLevel && sim::nt::CurrentIrql() != DISPATCH_LEVEL)
    {
        Bugcheck("WFP_WRONG_DISPATCH_LEVEL",
                 "FwpsDereferenceNetBufferList0 was called with dispatchLevel set at IRQL %u", sim::nt::CurrentIrql());
    }
    EnterAtDispatch(__func__).lists.Dereference(netBufferList);
}

NTSTATUS NTAPI FwpsConstructIpHeaderForTransportPacket0(NET_BUFFER_LIST *netBufferList, ULONG headerIncludeHeaderLength,
                                                        ADDRESS_FAMILY addressFamily, const UCHAR *sourceAddress,
                                                        const UCHAR *remoteAddress, IPPROTO nextProtocol, UINT64,
                                                        const WSACMSGHDR *, ULONG, UINT32 flags, PVOID reserved,
                                                        IF_INDEX, IF_INDEX)
{
    EngineState &engine = EnterAtDispatch(__func__);

    if (netBufferList == nullptr || netBufferList->FirstNetBuffer == nullptr || flags != 0 || reserved != nullptr ||
        sourceAddress == nullptr || remoteAddress == nullptr || (addressFamily != AF_INET && addressFamily != AF_INET6))
    {
        return STATUS_INVALID_PARAMETER;
    }
    return engine.FaultInjected()
               ? STATUS_INSUFFICIENT_RESOURCES
               : sim::wfp::PrependIpHeader(*netBufferList->FirstNetBuffer, headerIncludeHeaderLength, addressFamily,
                                           sourceAddress, remoteAddress, nextProtocol);
}

NTSTATUS NTAPI FwpsGetPacketListSecurityInformation0(const NET_BUFFER_LIST *packetList, UINT32 queryFlags,
                                                     FWPS_PACKET_LIST_INFORMATION0 *packetInformation)
{
    constexpr UINT32 kIpsecOfInbound =
        FWPS_PACKET_LIST_INFORMATION_QUERY_INBOUND | FWPS_PACKET_LIST_INFORMATION_QUERY_IPSEC;
    EngineState &engine = EnterAtDispatch(__func__);

    if (packetList == nullptr || packetInformation == nullptr || queryFlags != kIpsecOfInbound)
    {
        return STATUS_INVALID_PARAMETER;
    }
    if (engine.FaultInjected())
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    packetInformation->ipsecInformation.flags = sim::wfp::StateOf(packetList).security;
    packetInformation->fwpInformation.isReinjected = sim::wfp::StateOf(packetList).injectors != 0 ? 1 : 0;
    return STATUS_SUCCESS;
}
