// Every DEFINE_GUID after this header defines its GUID.
#ifndef INITGUID
#define INITGUID
#endif

#include "guiddef.h"
