// Events, timers, DPCs and waits, on top of the machine's scheduler.

#include <ntddk.h>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/irql.h"
#include "nt/scheduler.h"
#include "nt/user_wait.h"

using namespace sim;
using namespace sim::nt;

namespace
{

constexpr UCHAR kTimerTypeBase = 8;
constexpr UCHAR kDpcType = 19;

Scheduler &CurrentScheduler()
{
    return Machine::Current().scheduler();
}

void InitializeHeader(DISPATCHER_HEADER *header, UCHAR type, LONG state)
{
    header->Type = type;
    header->SignalState = state;
    InitializeListHead(&header->WaitListHead);
}

void RequireInitialized(const DISPATCHER_HEADER *header, const char *function)
{
    if (header->WaitListHead.Flink != &header->WaitListHead)
    {
        Bugcheck("OBJECT_NOT_INITIALIZED", "%s was called for the object %p, which was not initialized", function,
                 static_cast<const void *>(header));
    }
}

void RequireInitialized(const KDPC *dpc, const char *function)
{
    if (dpc->Type != kDpcType || dpc->DeferredRoutine == nullptr)
    {
        Bugcheck("OBJECT_NOT_INITIALIZED", "%s was called for the DPC %p, which was not initialized", function,
                 static_cast<const void *>(dpc));
    }
}

BOOLEAN SetTimer(const char *function, PKTIMER timer, LARGE_INTEGER due, ULONG period, ULONG tolerable_delay, PKDPC dpc)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, function);
    RequireNoLocksHeld(function);
    RequireInitialized(&timer->Header, function);
    if (dpc != nullptr)
    {
        RequireInitialized(dpc, function);
    }
    if (period > MAXLONG || tolerable_delay > MAXLONG)
    {
        Bugcheck("TIMER_PARAMETER_NEGATIVE", "%s was called with the period %u ms and the tolerable delay %u ms",
                 function, static_cast<unsigned>(period), static_cast<unsigned>(tolerable_delay));
    }
    return CurrentScheduler().SetTimer(timer, due, static_cast<LONG>(period), tolerable_delay, dpc);
}

} // namespace

extern "C" VOID KeInitializeEvent(PKEVENT Event, EVENT_TYPE Type, BOOLEAN State)
{
    InitializeHeader(&Event->Header, static_cast<UCHAR>(Type), State);
}

extern "C" LONG KeSetEvent(PKEVENT Event, KPRIORITY, BOOLEAN)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "KeSetEvent");
    RequireInitialized(&Event->Header, "KeSetEvent");
    return CurrentScheduler().SetSignal(&Event->Header, 1);
}

extern "C" VOID KeClearEvent(PKEVENT Event)
{
    KeResetEvent(Event);
}

extern "C" LONG KeResetEvent(PKEVENT Event)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "KeResetEvent");
    RequireInitialized(&Event->Header, "KeResetEvent");
    return CurrentScheduler().SetSignal(&Event->Header, 0);
}

extern "C" LONG KeReadStateEvent(PKEVENT Event)
{
    return ReadAcquire(&Event->Header.SignalState);
}

extern "C" NTSTATUS KeWaitForSingleObject(PVOID Object, KWAIT_REASON, KPROCESSOR_MODE WaitMode, BOOLEAN Alertable,
                                          PLARGE_INTEGER Timeout)
{
    DISPATCHER_HEADER *header = static_cast<DISPATCHER_HEADER *>(Object);

    bool waits = Timeout == nullptr || Timeout->QuadPart != 0;

    if (!waits)
    {
        RequireIrqlAtMost(DISPATCH_LEVEL, "KeWaitForSingleObject without a wait");
    }
    else
    {
        RequireIrqlAtMost(APC_LEVEL, "KeWaitForSingleObject");
        RequireNoLocksHeld("KeWaitForSingleObject");
    }
    RequireInitialized(header, "KeWaitForSingleObject");
    if (!waits || WaitMode == KernelMode)
    {
        return CurrentScheduler().Wait(header, Timeout, KernelMode, Alertable);
    }

    LARGE_INTEGER timeout = Timeout == nullptr ? LARGE_INTEGER{} : *Timeout; // the driver's may lie on its stack
    UserModeWait rules(Object, __builtin_frame_address(0));

    if (ReadAcquire(&header->SignalState) == 0)
    {
        WhileWaiting::Act();
    }
    return CurrentScheduler().Wait(header, Timeout == nullptr ? nullptr : &timeout, UserMode, Alertable);
}

extern "C" NTSTATUS KeDelayExecutionThread(KPROCESSOR_MODE WaitMode, BOOLEAN Alertable, PLARGE_INTEGER Interval)
{
    RequireIrqlAtMost(APC_LEVEL, "KeDelayExecutionThread");
    RequireNoLocksHeld("KeDelayExecutionThread");
    if (WaitMode == KernelMode)
    {
        return CurrentScheduler().Sleep(*Interval, KernelMode, Alertable);
    }

    LARGE_INTEGER interval = *Interval; // the driver's may lie on its stack
    UserModeWait rules(nullptr, __builtin_frame_address(0));

    return CurrentScheduler().Sleep(interval, UserMode, Alertable);
}

extern "C" VOID KeInitializeDpc(PRKDPC Dpc, PKDEFERRED_ROUTINE DeferredRoutine, PVOID DeferredContext)
{
    *Dpc = {};
    Dpc->Type = kDpcType;
    Dpc->Importance = MediumImportance;
    Dpc->DeferredRoutine = DeferredRoutine;
    Dpc->DeferredContext = DeferredContext;
}

extern "C" BOOLEAN KeInsertQueueDpc(PRKDPC Dpc, PVOID SystemArgument1, PVOID SystemArgument2)
{
    RequireInitialized(Dpc, "KeInsertQueueDpc");
    return CurrentScheduler().QueueDpc(Dpc, SystemArgument1, SystemArgument2);
}

extern "C" BOOLEAN KeRemoveQueueDpc(PRKDPC Dpc)
{
    RequireInitialized(Dpc, "KeRemoveQueueDpc");
    return CurrentScheduler().RemoveDpc(Dpc);
}

extern "C" VOID KeSetImportanceDpc(PRKDPC Dpc, KDPC_IMPORTANCE Importance)
{
    Dpc->Importance = static_cast<UCHAR>(Importance);
}

extern "C" VOID KeFlushQueuedDpcs(VOID)
{
    RequireIrql(PASSIVE_LEVEL, "KeFlushQueuedDpcs");
    CurrentScheduler().FlushDpcs();
}

extern "C" VOID KeInitializeTimer(PKTIMER Timer)
{
    KeInitializeTimerEx(Timer, NotificationTimer);
}

extern "C" VOID KeInitializeTimerEx(PKTIMER Timer, TIMER_TYPE Type)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "KeInitializeTimerEx");
    *Timer = {};
    InitializeHeader(&Timer->Header, static_cast<UCHAR>(kTimerTypeBase + Type), 0);
}

extern "C" BOOLEAN KeSetTimer(PKTIMER Timer, LARGE_INTEGER DueTime, PKDPC Dpc)
{
    return KeSetTimerEx(Timer, DueTime, 0, Dpc);
}

extern "C" BOOLEAN KeSetTimerEx(PKTIMER Timer, LARGE_INTEGER DueTime, LONG Period, PKDPC Dpc)
{
    return SetTimer("KeSetTimerEx", Timer, DueTime, static_cast<ULONG>(Period), 0, Dpc);
}

extern "C" BOOLEAN KeSetCoalescableTimer(PKTIMER Timer, LARGE_INTEGER DueTime, ULONG Period, ULONG TolerableDelay,
                                         PKDPC Dpc)
{
    return SetTimer("KeSetCoalescableTimer", Timer, DueTime, Period, TolerableDelay, Dpc);
}

extern "C" BOOLEAN KeCancelTimer(PKTIMER Timer)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "KeCancelTimer");
    RequireNoLocksHeld("KeCancelTimer");
    RequireInitialized(&Timer->Header, "KeCancelTimer");
    return CurrentScheduler().CancelTimer(Timer);
}

extern "C" BOOLEAN KeReadStateTimer(PKTIMER Timer)
{
    return ReadAcquire(&Timer->Header.SignalState) != 0;
}
