// Callback objects, by which the system tells drivers of its own state.
#pragma once

#include "unicode_string.h"

#define OBJ_CASE_INSENSITIVE 0x00000040UL

// First argument of \Callback\PowerState. The second, of this one: 0, the system is about to leave S0, its working
// state; 1, it is back.
#define PO_CB_SYSTEM_STATE_LOCK 3

typedef struct _OBJECT_ATTRIBUTES
{
    ULONG Length;
    HANDLE RootDirectory;
    PUNICODE_STRING ObjectName;
    ULONG Attributes;
    PVOID SecurityDescriptor;
    PVOID SecurityQualityOfService;
} OBJECT_ATTRIBUTES, *POBJECT_ATTRIBUTES;

#define InitializeObjectAttributes(attributes, name, flags, root, security)                                            \
    do                                                                                                                 \
    {                                                                                                                  \
        (attributes)->Length = sizeof(OBJECT_ATTRIBUTES);                                                              \
        (attributes)->RootDirectory = (root);                                                                          \
        (attributes)->ObjectName = (name);                                                                             \
        (attributes)->Attributes = (flags);                                                                            \
        (attributes)->SecurityDescriptor = (security);                                                                 \
        (attributes)->SecurityQualityOfService = NULL;                                                                 \
    } while (0)

typedef struct _CALLBACK_OBJECT *PCALLBACK_OBJECT;
typedef VOID NTAPI CALLBACK_FUNCTION(PVOID CallbackContext, PVOID Argument1, PVOID Argument2);
typedef CALLBACK_FUNCTION *PCALLBACK_FUNCTION;

EXTERN_C_START

// Opens one of the system's own; Create is not for this kernel. The reference is given back by ObDereferenceObject.
NTSTATUS NTAPI ExCreateCallback(PCALLBACK_OBJECT *CallbackObject, POBJECT_ATTRIBUTES ObjectAttributes, BOOLEAN Create,
                                BOOLEAN AllowMultipleCallbacks);
PVOID NTAPI ExRegisterCallback(PCALLBACK_OBJECT CallbackObject, PCALLBACK_FUNCTION CallbackFunction,
                               PVOID CallbackContext);
// Waits for calls that are running.
VOID NTAPI ExUnregisterCallback(PVOID CallbackRegistration);
LONG_PTR NTAPI ObfDereferenceObject(PVOID Object);
#define ObDereferenceObject ObfDereferenceObject

EXTERN_C_END
