// Callback objects, by which the system reports its state to drivers.
#pragma once

#include "object_attributes.h"

// The first argument of \Callback\PowerState for a change of the working state, S0.
// The second argument is then 0 before the system leaves S0, and 1 when it is back.
#define PO_CB_SYSTEM_STATE_LOCK 3

typedef struct _CALLBACK_OBJECT *PCALLBACK_OBJECT;
typedef VOID NTAPI CALLBACK_FUNCTION(PVOID CallbackContext, PVOID Argument1, PVOID Argument2);
typedef CALLBACK_FUNCTION *PCALLBACK_FUNCTION;

EXTERN_C_START

// Opens a system callback; Create is not supported. ObDereferenceObject releases the reference.
NTSTATUS NTAPI ExCreateCallback(PCALLBACK_OBJECT *CallbackObject, POBJECT_ATTRIBUTES ObjectAttributes, BOOLEAN Create,
                                BOOLEAN AllowMultipleCallbacks);
PVOID NTAPI ExRegisterCallback(PCALLBACK_OBJECT CallbackObject, PCALLBACK_FUNCTION CallbackFunction,
                               PVOID CallbackContext);
// Waits until no call of the callback is running.
VOID NTAPI ExUnregisterCallback(PVOID CallbackRegistration);
LONG_PTR NTAPI ObfDereferenceObject(PVOID Object);
#define ObDereferenceObject ObfDereferenceObject

EXTERN_C_END
