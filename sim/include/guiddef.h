// GUIDs. DEFINE_GUID declares a GUID; with INITGUID defined before this header it also defines the GUID.
#ifndef HOST_GUIDDEF_H
#define HOST_GUIDDEF_H

#include "wdm/types.h"

typedef struct _GUID
{
    ULONG Data1;
    USHORT Data2;
    USHORT Data3;
    UCHAR Data4[8];
} GUID, *LPGUID;
typedef const GUID *LPCGUID;

typedef GUID IID, CLSID;

#ifdef __cplusplus
typedef const GUID &REFGUID;
#else
typedef const GUID *REFGUID;
#endif

#define IsEqualGUID(left, right) HostEqualGuid(HOST_GUID_ADDRESS(left), HOST_GUID_ADDRESS(right))

#ifdef __cplusplus
#define HOST_GUID_ADDRESS(guid) (&(guid))
#else
#define HOST_GUID_ADDRESS(guid) (guid)
#endif

FORCEINLINE BOOLEAN HostEqualGuid(const GUID *Left, const GUID *Right)
{
    return RtlEqualMemory(Left, Right, sizeof(GUID));
}

#ifdef __cplusplus
FORCEINLINE bool operator==(const GUID &Left, const GUID &Right)
{
    return HostEqualGuid(&Left, &Right);
}

FORCEINLINE bool operator!=(const GUID &Left, const GUID &Right)
{
    return !HostEqualGuid(&Left, &Right);
}
#endif

#endif

// Outside of the include guard, because a later inclusion with INITGUID must still define.
#undef DEFINE_GUID
#ifdef INITGUID
#ifdef _WIN32
#define HOST_DEFINED_ONCE selectany
#else
#define HOST_DEFINED_ONCE weak
#endif
#define DEFINE_GUID(name, l, w1, w2, b1, b2, b3, b4, b5, b6, b7, b8)                                                   \
    EXTERN_C const GUID name __attribute__((HOST_DEFINED_ONCE));                                                       \
    EXTERN_C_START const GUID name = {l, w1, w2, {b1, b2, b3, b4, b5, b6, b7, b8}};                                    \
    EXTERN_C_END
#else
#define DEFINE_GUID(name, l, w1, w2, b1, b2, b3, b4, b5, b6, b7, b8) EXTERN_C const GUID name
#endif
