// The kernel's interface to drivers, as far as a host build needs it; sim/nt implements it.
#pragma once

#include "wdm.h"
