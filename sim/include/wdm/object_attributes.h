// How a driver names an object that it opens.
#pragma once

#include "unicode_string.h"

#define OBJ_CASE_INSENSITIVE 0x00000040UL
#define OBJ_KERNEL_HANDLE    0x00000200UL

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
