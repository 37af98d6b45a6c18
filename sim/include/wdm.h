// The part of the kernel's driver interface that a host build needs; sim/nt implements it.
#pragma once

#include "guiddef.h"
#include "wdm/callback.h"
#include "wdm/debug.h"
#include "wdm/interlocked.h"
#include "wdm/io.h"
#include "wdm/list.h"
#include "wdm/mdl.h"
#include "wdm/object_attributes.h"
#include "wdm/pool.h"
#include "wdm/process.h"
#include "wdm/registry.h"
#include "wdm/status.h"
#include "wdm/synchronization.h"
#include "wdm/types.h"
#include "wdm/unicode_string.h"
#include "wdm/version.h"
