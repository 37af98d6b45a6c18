#include "wfp_fixture.h"

#include "wfp/packet_origin.h"

#include <utility>

namespace sim::wfp
{
namespace
{

constexpr uint16_t kPacketLayer = FWPS_LAYER_OUTBOUND_IPPACKET_V4;

struct Origin : PacketOrigin
{
    void Retain() override { ++retained; }
    void Release() override { --retained; }
    void OnInjected() override { ++injected; }
    void OnDropped() override { ++dropped; }

    int retained = 0;
    int injected = 0;
    int dropped = 0;
};

struct Target : InjectionTarget
{
    NTSTATUS Deliver(const Injection &injection) override
    {
        deliveries.push_back(injection);
        return deliver ? deliver(injection) : STATUS_SUCCESS;
    }

    std::vector<Injection> deliveries;
    std::function<NTSTATUS(const Injection &)> deliver;
};

class WfpInjection : public WfpTest
{
  protected:
    WfpInjection() : packet(MakeIpv4())
    {
        pool = machine.net_buffers().CreatePool(ndis::PoolOwner::kDriver, 'tseT', 0, true);
        EXPECT_EQ(
            FwpsInjectionHandleCreate0(AF_INET, FWPS_INJECTION_TYPE_NETWORK | FWPS_INJECTION_TYPE_TRANSPORT, &handle),
            STATUS_SUCCESS);
        engine().SetInjectionTarget(&target);
    }

    ~WfpInjection() override
    {
        engine().SetInjectionTarget(nullptr);
        if (handle != nullptr)
        {
            EXPECT_EQ(FwpsInjectionHandleDestroy0(handle), STATUS_SUCCESS);
        }
        engine().CheckUnloaded();
        machine.net_buffers().DestroyPool(pool);
    }

    static std::vector<uint8_t> MakeIpv4()
    {
        std::vector<uint8_t> bytes(40);

        bytes[0] = 0x45;
        return bytes;
    }

    NET_BUFFER_LIST *Allocate()
    {
        NET_BUFFER_LIST *list = nullptr;

        EXPECT_EQ(FwpsAllocateNetBufferAndNetBufferList0(pool, 0, 0, packet.mdl(), 0, packet.length(), &list),
                  STATUS_SUCCESS);
        return list;
    }

    struct Completion
    {
        int calls = 0;
        NTSTATUS status = STATUS_PENDING;
        KIRQL irql = PASSIVE_LEVEL;
        bool free = true;

        static void NTAPI Function(void *context, NET_BUFFER_LIST *list, BOOLEAN)
        {
            auto *completion = static_cast<Completion *>(context);

            ++completion->calls;
            completion->status = list->Status;
            completion->irql = nt::CurrentIrql();
            if (completion->free)
            {
                FwpsFreeNetBufferList0(list);
            }
        }
    };

    NTSTATUS Send(NET_BUFFER_LIST *list, Completion *completion, HANDLE context = nullptr)
    {
        return FwpsInjectNetworkSendAsync0(handle, context, 0, UNSPECIFIED_COMPARTMENT_ID, list, Completion::Function,
                                           completion);
    }

    PacketBytes packet;
    NDIS_HANDLE pool = nullptr;
    HANDLE handle = nullptr;
    Target target;
};

TEST_F(WfpInjection, IsDeliveredAndCompletedByTheSchedulerAtDispatch)
{
    Completion completion;
    NET_BUFFER_LIST *list = Allocate();

    target.deliver = [](const Injection &)
    {
        EXPECT_EQ(nt::CurrentIrql(), DISPATCH_LEVEL);
        return STATUS_SUCCESS;
    };
    ASSERT_EQ(Send(list, &completion), STATUS_SUCCESS);
    EXPECT_EQ(completion.calls, 0);
    EXPECT_EQ(engine().counters().injections_now, 1u);
    machine.Run();

    ASSERT_EQ(target.deliveries.size(), 1u);
    EXPECT_EQ(target.deliveries[0].kind, Injection::kNetworkSend);
    EXPECT_EQ(target.deliveries[0].family, AF_INET);
    EXPECT_EQ(target.deliveries[0].net_buffer_list, list);
    EXPECT_EQ(completion.calls, 1);
    EXPECT_EQ(completion.status, STATUS_SUCCESS);
    EXPECT_EQ(completion.irql, DISPATCH_LEVEL);
    EXPECT_EQ(engine().counters().injections_now, 0u);
    EXPECT_EQ(engine().counters().injections_total, 1u);
}

TEST_F(WfpInjection, APendedOperationMayBeCompletedWithTheListThatIsInjectedNext)
{
    Completion completion;
    NET_BUFFER_LIST *const list = Allocate();
    NET_BUFFER_LIST *shown = nullptr;
    HANDLE pended = nullptr;
    TestCallout callout;
    Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4});
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4, callout);
    callout.classify = [&](const ClassifyCall &call)
    {
        EXPECT_EQ(FwpsPendOperation0(call.metadata->completionHandle, &pended), STATUS_SUCCESS);
        call.Absorb();
    };
    ClassifyInput input = Input(FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V4);

    input.can_pend = true;
    input.on_complete = [&shown](NET_BUFFER_LIST *given) { shown = given; };
    EXPECT_TRUE(engine().Classify(input).pended);
    FwpsCompleteOperation0(pended, list);
    EXPECT_EQ(shown, list);
    EXPECT_EQ(Send(list, &completion), STATUS_SUCCESS);
    machine.Run();
    EXPECT_EQ(completion.calls, 1);
    EXPECT_EQ(FwpsInjectionHandleDestroy0(std::exchange(handle, nullptr)), STATUS_SUCCESS);
    StopDriver(driver);
}

TEST_F(WfpInjection, StatusOfTheDeliveryIsTheListsStatus)
{
    Completion completion;

    target.deliver = [](const Injection &) { return static_cast<NTSTATUS>(STATUS_UNSUCCESSFUL); };
    ASSERT_EQ(Send(Allocate(), &completion), STATUS_SUCCESS);
    machine.Run();
    EXPECT_EQ(completion.status, STATUS_UNSUCCESSFUL);
}

TEST_F(WfpInjection, MayCompleteBeforeTheCallReturns)
{
    Completion completion;

    engine().SetInjectionBehavior({InjectionBehavior::kInline, STATUS_SUCCESS});
    ASSERT_EQ(Send(Allocate(), &completion), STATUS_SUCCESS);
    EXPECT_EQ(completion.calls, 1);
    EXPECT_EQ(target.deliveries.size(), 1u);
    EXPECT_EQ(nt::CurrentIrql(), PASSIVE_LEVEL);
}

TEST_F(WfpInjection, FailedCallDoesNotComplete)
{
    Completion completion;
    NET_BUFFER_LIST *list = Allocate();

    engine().SetInjectionBehavior({InjectionBehavior::kFail, STATUS_INSUFFICIENT_RESOURCES});
    EXPECT_EQ(Send(list, &completion), STATUS_INSUFFICIENT_RESOURCES);
    machine.Run();
    EXPECT_EQ(completion.calls, 0);
    EXPECT_TRUE(target.deliveries.empty());
    FwpsFreeNetBufferList0(list);
}

TEST_F(WfpInjection, OneKindOfInjectionMayFailAlone)
{
    Completion completion;

    engine().SetInjectionBehavior({InjectionBehavior::kFail, STATUS_INVALID_HANDLE, 1u << Injection::kTransportSend});
    EXPECT_EQ(Send(Allocate(), &completion), STATUS_SUCCESS);
    machine.Run();
    EXPECT_EQ(completion.status, STATUS_SUCCESS);
}

TEST_F(WfpInjection, AListKeepsTheSecurityThatItWasReceivedWith)
{
    constexpr UINT32 kQuery = FWPS_PACKET_LIST_INFORMATION_QUERY_INBOUND | FWPS_PACKET_LIST_INFORMATION_QUERY_IPSEC;
    FWPS_PACKET_LIST_INBOUND_IPSEC_INFORMATION0 security{};
    FWPS_PACKET_LIST_INFORMATION0 information{};
    NET_BUFFER_LIST *list = Allocate();
    NET_BUFFER_LIST *clone = nullptr;

    EXPECT_EQ(FwpsGetPacketListSecurityInformation0(list, kQuery, &information), STATUS_SUCCESS);
    EXPECT_EQ(information.ipsecInformation.flags, 0u);
    security.isSecure = 1;
    Engine::SetSecurity(list, security);
    ASSERT_EQ(FwpsAllocateCloneNetBufferList0(list, pool, nullptr, 0, &clone), STATUS_SUCCESS);
    for (const NET_BUFFER_LIST *each : {list, clone})
    {
        EXPECT_EQ(FwpsGetPacketListSecurityInformation0(each, kQuery, &information), STATUS_SUCCESS);
        EXPECT_TRUE(information.ipsecInformation.inbound.isSecure);
        EXPECT_FALSE(information.ipsecInformation.inbound.isTunnelMode);
    }
    EXPECT_EQ(FwpsGetPacketListSecurityInformation0(list, 0, &information), STATUS_INVALID_PARAMETER);
    FwpsFreeCloneNetBufferList0(clone, 0);
    FwpsFreeNetBufferList0(list);
}

TEST_F(WfpInjection, EveryListOfAChainCompletesSeparately)
{
    Completion completion;
    NET_BUFFER_LIST *first = Allocate();

    first->Next = Allocate();
    ASSERT_EQ(Send(first, &completion), STATUS_SUCCESS);
    machine.Run();
    EXPECT_EQ(completion.calls, 2);
    EXPECT_EQ(target.deliveries.size(), 2u);
}

TEST_F(WfpInjection, InjectionStateIdentifiesTheInjector)
{
    Completion completion;
    HANDLE other = nullptr;
    HANDLE context = nullptr;
    int marker = 0;
    NET_BUFFER_LIST *list = Allocate();

    completion.free = false;
    ASSERT_EQ(FwpsInjectionHandleCreate0(AF_UNSPEC, FWPS_INJECTION_TYPE_NETWORK, &other), STATUS_SUCCESS);
    EXPECT_EQ(FwpsQueryPacketInjectionState0(handle, list, nullptr), FWPS_PACKET_NOT_INJECTED);

    ASSERT_EQ(Send(list, &completion, &marker), STATUS_SUCCESS);
    machine.Run();
    EXPECT_EQ(FwpsQueryPacketInjectionState0(handle, list, &context), FWPS_PACKET_INJECTED_BY_SELF);
    EXPECT_EQ(context, &marker);
    EXPECT_EQ(FwpsQueryPacketInjectionState0(other, list, nullptr), FWPS_PACKET_INJECTED_BY_OTHER);

    ASSERT_EQ(FwpsInjectNetworkSendAsync0(other, nullptr, 0, UNSPECIFIED_COMPARTMENT_ID, list, Completion::Function,
                                          &completion),
              STATUS_SUCCESS);
    machine.Run();
    EXPECT_EQ(FwpsQueryPacketInjectionState0(handle, list, nullptr), FWPS_PACKET_PREVIOUSLY_INJECTED_BY_SELF);
    EXPECT_EQ(FwpsQueryPacketInjectionState0(other, list, nullptr), FWPS_PACKET_INJECTED_BY_SELF);

    FwpsFreeNetBufferList0(list);
    EXPECT_EQ(FwpsInjectionHandleDestroy0(other), STATUS_SUCCESS);
}

TEST_F(WfpInjection, InjectionStateIsPresentDuringTheDeliveryAndCanBeCopied)
{
    Completion completion;
    FWPS_PACKET_INJECTION_STATE seen = FWPS_PACKET_NOT_INJECTED;
    FWPS_PACKET_INJECTION_STATE copied = FWPS_PACKET_NOT_INJECTED;
    NET_BUFFER_LIST *standing_for =
        machine.net_buffers().Allocate(machine.net_buffers().stack_pool(), 0, 0, packet.mdl(), 0, packet.length());

    target.deliver = [&](const Injection &injection)
    {
        seen = FwpsQueryPacketInjectionState0(handle, injection.net_buffer_list, nullptr);
        Engine::CopyInjectionState(injection.net_buffer_list, standing_for);
        copied = FwpsQueryPacketInjectionState0(handle, standing_for, nullptr);
        return STATUS_SUCCESS;
    };
    ASSERT_EQ(Send(Allocate(), &completion), STATUS_SUCCESS);
    machine.Run();
    EXPECT_EQ(seen, FWPS_PACKET_INJECTED_BY_SELF);
    EXPECT_EQ(copied, FWPS_PACKET_INJECTED_BY_SELF);
    machine.net_buffers().Free(standing_for);
}

TEST_F(WfpInjection, TransportSendCarriesItsParameters)
{
    Completion completion;
    UCHAR remote[4] = {192, 0, 2, 1};
    WSACMSGHDR control{sizeof(WSACMSGHDR), 1, 2};
    FWPS_TRANSPORT_SEND_PARAMS1 parameters{};

    parameters.remoteAddress = remote;
    parameters.remoteScopeId.Value = 5;
    parameters.controlData = &control;
    parameters.controlDataLength = sizeof(control);
    ASSERT_EQ(FwpsInjectTransportSendAsync1(handle, nullptr, 77, 0, &parameters, AF_INET, DEFAULT_COMPARTMENT_ID,
                                            Allocate(), Completion::Function, &completion),
              STATUS_SUCCESS);
    machine.Run();
    ASSERT_EQ(target.deliveries.size(), 1u);
    EXPECT_EQ(target.deliveries[0].kind, Injection::kTransportSend);
    EXPECT_EQ(target.deliveries[0].endpoint_handle, 77u);
    EXPECT_EQ(target.deliveries[0].remote_address[0], 192);
    EXPECT_EQ(target.deliveries[0].remote_address[3], 1);
    EXPECT_EQ(target.deliveries[0].remote_scope.Value, 5u);
    EXPECT_EQ(target.deliveries[0].control_data, &control);
    EXPECT_EQ(target.deliveries[0].compartment, 1u);
}

TEST_F(WfpInjection, ReceiveCarriesItsInterface)
{
    Completion completion;

    ASSERT_EQ(
        FwpsInjectNetworkReceiveAsync0(handle, nullptr, 0, 1, 12, 3, Allocate(), Completion::Function, &completion),
        STATUS_SUCCESS);
    ASSERT_EQ(FwpsInjectTransportReceiveAsync0(handle, nullptr, nullptr, 0, AF_INET, 1, 13, 4, Allocate(),
                                               Completion::Function, &completion),
              STATUS_SUCCESS);
    machine.Run();
    ASSERT_EQ(target.deliveries.size(), 2u);
    EXPECT_EQ(target.deliveries[0].kind, Injection::kNetworkReceive);
    EXPECT_EQ(target.deliveries[0].interface_index, 12u);
    EXPECT_EQ(target.deliveries[0].sub_interface_index, 3u);
    EXPECT_EQ(target.deliveries[1].kind, Injection::kTransportReceive);
    EXPECT_EQ(target.deliveries[1].interface_index, 13u);
}

TEST_F(WfpInjection, HandleOfAnotherFamilyOrTypeIsRefused)
{
    Completion completion;
    HANDLE transport = nullptr;
    NET_BUFFER_LIST *list = Allocate();

    ASSERT_EQ(FwpsInjectionHandleCreate0(AF_INET6, FWPS_INJECTION_TYPE_TRANSPORT, &transport), STATUS_SUCCESS);
    EXPECT_EQ(FwpsInjectNetworkSendAsync0(transport, nullptr, 0, 0, list, Completion::Function, &completion),
              STATUS_INVALID_PARAMETER);
    EXPECT_EQ(FwpsInjectTransportReceiveAsync0(transport, nullptr, nullptr, 0, AF_INET, 1, 1, 0, list,
                                               Completion::Function, &completion),
              STATUS_INVALID_PARAMETER);
    EXPECT_EQ(FwpsInjectionHandleDestroy0(transport), STATUS_SUCCESS);
    EXPECT_EQ(FwpsInjectNetworkSendAsync0(transport, nullptr, 0, 0, list, Completion::Function, &completion),
              STATUS_FWP_INJECT_HANDLE_STALE);
    FwpsFreeNetBufferList0(list);
}

TEST_F(WfpInjection, DestroyingTheHandleWaitsForInjectionsInFlight)
{
    Completion completion;

    ASSERT_EQ(Send(Allocate(), &completion), STATUS_SUCCESS);
    EXPECT_EQ(completion.calls, 0);
    EXPECT_EQ(FwpsInjectionHandleDestroy0(handle), STATUS_SUCCESS);
    EXPECT_EQ(completion.calls, 1);
    handle = nullptr;
}

class WfpOrigin : public WfpInjection
{
  protected:
    WfpOrigin() : driver(StartDriver({&FWPM_LAYER_OUTBOUND_IPPACKET_V4}))
    {
        AddCalloutFilter(driver, FWPM_LAYER_OUTBOUND_IPPACKET_V4, callout);
    }

    ~WfpOrigin() override
    {
        EXPECT_EQ(FwpmEngineClose0(driver.session), STATUS_SUCCESS);
        EXPECT_EQ(FwpsCalloutUnregisterById0(driver.callouts[0]), STATUS_SUCCESS);
        EXPECT_EQ(origin.retained, 0);
    }

    ClassifyResult ClassifyPacket()
    {
        ClassifyInput input = Input(kPacketLayer);

        input.origin = &origin;
        return engine().Classify(input);
    }

    Driver driver;
    TestCallout callout;
    Origin origin;
};

TEST_F(WfpOrigin, OriginWithoutCopiesIsNotCalled)
{
    callout.classify = [](const ClassifyCall &call) { call.Absorb(); };
    const ClassifyResult result = ClassifyPacket();

    EXPECT_TRUE(result.absorbed);
    EXPECT_FALSE(result.has_copies);
    EXPECT_EQ(origin.retained + origin.dropped + origin.injected, 0);
}

TEST_F(WfpOrigin, CopyThatIsFreedInsideTheClassifyDoesNotCount)
{
    callout.classify = [&](const ClassifyCall &call)
    {
        FwpsFreeNetBufferList0(Allocate());
        call.Permit();
    };
    EXPECT_FALSE(ClassifyPacket().has_copies);
    EXPECT_EQ(origin.dropped, 0);
    EXPECT_EQ(origin.injected, 0);
}

TEST_F(WfpOrigin, CopyThatIsFreedUninjectedIsADrop)
{
    NET_BUFFER_LIST *copies[2] = {};

    callout.classify = [&](const ClassifyCall &call)
    {
        copies[0] = Allocate();
        copies[1] = Allocate();
        call.Absorb();
    };
    EXPECT_TRUE(ClassifyPacket().has_copies);
    FwpsFreeNetBufferList0(copies[0]);
    EXPECT_EQ(origin.dropped, 0) << "one copy is left";
    EXPECT_EQ(origin.retained, 1);
    FwpsFreeNetBufferList0(copies[1]);
    EXPECT_EQ(origin.dropped, 1);
}

TEST_F(WfpOrigin, CopyThatIsInjectedResolvesItsOriginOnceBeforeTheDelivery)
{
    Completion completion;
    NET_BUFFER_LIST *copies[2] = {};

    callout.classify = [&](const ClassifyCall &call)
    {
        copies[0] = Allocate();
        copies[1] = Allocate();
        call.Absorb();
    };
    target.deliver = [&](const Injection &injection)
    {
        EXPECT_EQ(injection.origin, &origin);
        EXPECT_EQ(origin.injected, 1);
        return STATUS_SUCCESS;
    };
    EXPECT_TRUE(ClassifyPacket().has_copies);
    ASSERT_EQ(Send(copies[0], &completion), STATUS_SUCCESS);
    ASSERT_EQ(Send(copies[1], &completion), STATUS_SUCCESS);
    machine.Run();
    EXPECT_EQ(origin.injected, 1);
    EXPECT_EQ(origin.dropped, 0);
}

TEST_F(WfpOrigin, CopyThatIsInjectedInsideTheClassifyIsACopy)
{
    Completion completion;

    engine().SetInjectionBehavior({InjectionBehavior::kInline, STATUS_SUCCESS});
    callout.classify = [&](const ClassifyCall &call)
    {
        EXPECT_EQ(Send(Allocate(), &completion), STATUS_SUCCESS);
        call.Absorb();
    };
    EXPECT_TRUE(ClassifyPacket().has_copies);
    EXPECT_EQ(origin.injected, 1);
}

TEST_F(WfpOrigin, ListAllocatedOutsideOfClassifiesHasNoOrigin)
{
    Completion completion;

    ASSERT_EQ(Send(Allocate(), &completion), STATUS_SUCCESS);
    machine.Run();
    EXPECT_EQ(target.deliveries[0].origin, nullptr);
}

TEST_F(WfpOrigin, ReferencedListIsReleasedWhenTheDriverDereferencesIt)
{
    bool released = false;
    NET_BUFFER_LIST *clone = nullptr;
    NET_BUFFER_LIST *list =
        machine.net_buffers().Allocate(machine.net_buffers().stack_pool(), 0, 0, packet.mdl(), 0, packet.length());
    ClassifyInput input = Input(kPacketLayer);

    input.layer_data = list;
    callout.classify = [&](const ClassifyCall &call)
    {
        FwpsReferenceNetBufferList0(list, TRUE);
        ASSERT_EQ(FwpsAllocateCloneNetBufferList0(list, nullptr, nullptr, 0, &clone), STATUS_SUCCESS);
        call.Absorb();
    };
    EXPECT_TRUE(engine().Classify(input).referenced);
    engine().ReleaseWhenUnreferenced(list, [&] { released = true; });
    EXPECT_FALSE(released);
    FwpsDereferenceNetBufferList0(list, FALSE);
    EXPECT_FALSE(released) << "the clone is left";
    FwpsFreeCloneNetBufferList0(clone, 0);
    EXPECT_TRUE(released);
    machine.net_buffers().Free(list);
}

class WfpInjectionDeathTest : public WfpInjection
{
};

TEST_F(WfpInjectionDeathTest, FreedTwice)
{
    NET_BUFFER_LIST *list = Allocate();

    FwpsFreeNetBufferList0(list);
    EXPECT_DEATH(FwpsFreeNetBufferList0(list), "BUGCHECK WFP_NBL_NOT_ALLOCATED");
}

TEST_F(WfpInjectionDeathTest, FreedWhileInjected)
{
    Completion completion;
    NET_BUFFER_LIST *list = Allocate();

    ASSERT_EQ(Send(list, &completion), STATUS_SUCCESS);
    EXPECT_DEATH(FwpsFreeNetBufferList0(list), "BUGCHECK WFP_NBL_FREED_WHILE_INJECTED");
    EXPECT_DEATH(Send(list, &completion), "BUGCHECK WFP_NBL_INJECTED_TWICE");
    machine.Run();
}

TEST_F(WfpInjectionDeathTest, Leaked)
{
    NET_BUFFER_LIST *list = Allocate();

    ASSERT_EQ(FwpsInjectionHandleDestroy0(handle), STATUS_SUCCESS);
    handle = nullptr;
    EXPECT_DEATH(engine().CheckUnloaded(), "BUGCHECK WFP_NBL_LEAKED");
    FwpsFreeNetBufferList0(list);
}

TEST_F(WfpInjectionDeathTest, HandleLeaked)
{
    EXPECT_DEATH(engine().CheckUnloaded(), "BUGCHECK WFP_INJECTION_HANDLE_LEAKED");
}

TEST_F(WfpInjectionDeathTest, MisalignedIpHeader)
{
    Completion completion;
    NET_BUFFER_LIST *list = nullptr;

    ASSERT_EQ(FwpsAllocateNetBufferAndNetBufferList0(pool, 0, 0, packet.mdl(), 4, packet.length() - 4, &list),
              STATUS_SUCCESS);
    EXPECT_DEATH(Send(list, &completion), "BUGCHECK WFP_IP_HEADER_MISALIGNED");
    FwpsFreeNetBufferList0(list);
}

TEST_F(WfpInjectionDeathTest, TcpInjectedInsideItsAuthorization)
{
    TestCallout callout;
    Completion completion;
    NET_BUFFER_LIST *list = Allocate();
    const Driver driver = StartDriver({&FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4});

    callout.classify = [&](const ClassifyCall &call)
    {
        FwpsInjectTransportReceiveAsync0(handle, nullptr, nullptr, 0, AF_INET, 1, 1, 0, list, Completion::Function,
                                         &completion);
        call.Absorb();
    };
    AddCalloutFilter(driver, FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4, callout);
    EXPECT_DEATH(Classify(FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V4), "BUGCHECK WFP_INLINE_TCP_INJECTION");

    protocol = IPPROTO_UDP;
    EXPECT_EQ(Classify(FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V4).action, ClassifyResult::kBlock);
    machine.Run();
    EXPECT_EQ(FwpmEngineClose0(driver.session), STATUS_SUCCESS);
    EXPECT_EQ(FwpsCalloutUnregisterById0(driver.callouts[0]), STATUS_SUCCESS);
}

TEST_F(WfpInjectionDeathTest, ControlDataThatDoesNotLiveUntilTheCompletion)
{
    Completion completion;
    UCHAR remote[4] = {192, 0, 2, 1};
    WSACMSGHDR control{sizeof(WSACMSGHDR), 1, 2};
    FWPS_TRANSPORT_SEND_PARAMS1 parameters{};

    parameters.remoteAddress = remote;
    parameters.controlData = &control;
    parameters.controlDataLength = sizeof(control);
    ASSERT_EQ(FwpsInjectTransportSendAsync1(handle, nullptr, 77, 0, &parameters, AF_INET, DEFAULT_COMPARTMENT_ID,
                                            Allocate(), Completion::Function, &completion),
              STATUS_SUCCESS);
    control.cmsg_level = 9;
    EXPECT_DEATH(machine.Run(), "BUGCHECK WFP_SEND_PARAMETERS_CHANGED");
    control.cmsg_level = 1;
    machine.Run();
}

} // namespace
} // namespace sim::wfp
