// Every DEFINE_GUID after this defines its GUID.
#ifndef INITGUID
#define INITGUID
#endif

#include "guiddef.h"
