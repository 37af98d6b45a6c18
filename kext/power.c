#include "power.h"

#include "context.h"
#include "hold.h"

static CALLBACK_FUNCTION PowerStateChanged;

static VOID PowerLeaveWorkingState(DRIVER_CONTEXT *context)
{
    UINT64 resolved;

    LogInfo(&context->Log, "The system goes to sleep");
    resolved = HoldResolvePresent(context);
    if (resolved != 0)
    {
        LogWarning(&context->Log, "The system goes to sleep: the fail policy decides over %llu held packets",
                   (unsigned long long)resolved);
    }
    FragmentTableForget(&context->Fragments, CLOCK_NEVER);
}

static VOID PowerEnterWorkingState(DRIVER_CONTEXT *context)
{
    LogInfo(&context->Log, "The system has resumed");
    EngineRequestReauthorization(&context->Engine);
}

// Enters as a classify does, so a detach waits for this routine.
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
        PowerLeaveWorkingState(context);
    }
    else
    {
        PowerEnterWorkingState(context);
    }
    ClientLeave(&context->Client.Classifies, slot);
    EngineReauthorize(&context->Engine);
}

_Use_decl_annotations_
PLATFORM_INIT
VOID PowerInitialize(DRIVER_CONTEXT *context)
{
    OBJECT_ATTRIBUTES attributes;
    UNICODE_STRING name;

    RtlInitUnicodeString(&name, L"\\Callback\\PowerState");
    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE, NULL, NULL);
    // Wine's function succeeds without an object.
    if (NT_SUCCESS(ExCreateCallback(&context->PowerCallback, &attributes, FALSE, TRUE)) &&
        context->PowerCallback != NULL)
    {
        context->PowerRegistration = ExRegisterCallback(context->PowerCallback, PowerStateChanged, context);
    }
    if (context->PowerRegistration == NULL)
    {
        LogInfo(&context->Log, "The system does not notify of sleep and resume");
    }
}

_Use_decl_annotations_
VOID PowerUninitialize(DRIVER_CONTEXT *context)
{
    if (context->PowerRegistration != NULL)
    {
        ExUnregisterCallback(context->PowerRegistration);
    }
    if (context->PowerCallback != NULL)
    {
        ObDereferenceObject(context->PowerCallback);
    }
}
