// The part of the kernel's driver interface that a host build needs; sim/nt implements it.
#pragma once

#include "wdm.h"
