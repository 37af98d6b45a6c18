#include "power.h"

#include "context.h"

static CALLBACK_FUNCTION PowerStateChanged;

static VOID LeaveWorkingState(DRIVER_CONTEXT *context)
{
    UINT64 resolved = HoldResolvePresent(context);

    if (resolved != 0)
    {
        LogWarning(&context->Log, "The system goes to sleep: the fail policy decides over %llu held packets",
                   (unsigned long long)resolved);
    }
    InjectChain(FragmentTableResolve(&context->Fragments, ClientFailVerdict(&context->Client) == VerdictAccept));
}

static VOID EnterWorkingState(DRIVER_CONTEXT *context)
{
    DeferredStart(&context->Deferred, ClientRoundPeriodMs(&context->Client));
    DeferredRequest(&context->Deferred, DEFERRED_REAUTHORIZE);
}

// Inside the client's rundown as a classify is, so that a client that detaches stops the timer after it was started.
_Use_decl_annotations_
static VOID NTAPI PowerStateChanged(PVOID callbackContext, PVOID argument1, PVOID argument2)
{
    DRIVER_CONTEXT *context = (DRIVER_CONTEXT *)callbackContext;
    CLIENT_MODE mode;
    RUNDOWN_SLOT *slot;

    if ((ULONG_PTR)argument1 != PO_CB_SYSTEM_STATE_LOCK)
    {
        return;
    }
    slot = ClientEnterClassify(&context->Client, &mode);
    if (slot == NULL)
    {
        return;
    }
    if (argument2 == NULL)
    {
        LeaveWorkingState(context);
    }
    else
    {
        EnterWorkingState(context);
    }
    ClientLeaveClassify(&context->Client, slot);
    DeferredQueue(&context->Deferred);
}

_Use_decl_annotations_
PLATFORM_INIT
VOID PowerInitialize(DRIVER_CONTEXT *context)
{
    POWER *power = &context->Power;
    OBJECT_ATTRIBUTES attributes;
    UNICODE_STRING name;

    RtlZeroMemory(power, sizeof(*power));
    RtlInitUnicodeString(&name, L"\\Callback\\PowerState");
    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE, NULL, NULL);
    // Wine's function succeeds without an object.
    if (NT_SUCCESS(ExCreateCallback(&power->Callback, &attributes, FALSE, TRUE)) && power->Callback != NULL)
    {
        power->Registration = ExRegisterCallback(power->Callback, PowerStateChanged, context);
    }
    if (power->Registration == NULL)
    {
        LogInfo(&context->Log, "The system does not tell of sleep and resume");
    }
}

_Use_decl_annotations_
VOID PowerUninitialize(DRIVER_CONTEXT *context)
{
    POWER *power = &context->Power;

    if (power->Registration != NULL)
    {
        ExUnregisterCallback(power->Registration);
    }
    if (power->Callback != NULL)
    {
        ObDereferenceObject(power->Callback);
    }
}
