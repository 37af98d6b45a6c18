// What sessions put into the engine, and the runtime side of callouts.
//
// Concurrency: objects are shared by configurations and snapshots, and do not change once a configuration that holds
// them is committed. Filter::runtime is filled in by its callout's notifyFn before that.
#pragma once

#include <ntddk.h>

#include <ndis.h>

#include <fwpsk.h>

#include <fwpmk.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>

namespace sim::wfp
{

struct GuidLess
{
    bool operator()(const GUID &a, const GUID &b) const { return std::memcmp(&a, &b, sizeof(GUID)) < 0; }
};

// 0: nobody's; such objects stay until they are deleted.
using SessionId = uint64_t;

struct Provider
{
    GUID key{};
    SessionId owner = 0;
};

struct SubLayer
{
    GUID key{};
    GUID provider{}; // as in all objects: zero where there is none
    uint16_t weight = 0;
    uint64_t order = 0; // of addition: breaks ties of weight
    SessionId owner = 0;
};

// What FwpmCalloutAdd0 made. Its functions are found by key.
struct ManagedCallout
{
    GUID key{};
    GUID provider{};
    uint16_t layer = 0;
    UINT32 id = 0;
    SessionId owner = 0;
};

// What FwpsCalloutRegister1 made.
struct RuntimeCallout
{
    FWPS_CALLOUT1 functions{};
    UINT32 id = 0;
    bool was_found_busy = false;
};

enum class FilterKind : uint8_t
{
    kPermit,
    kBlock,
    kContinue,
    kVeto,
    kTerminatingCallout,
    kInspectionCallout
};

struct Filter
{
    FWPS_FILTER1 runtime{}; // what a callout sees
    UINT64 weight = 0;      // runtime.weight points here
    FilterKind kind = FilterKind::kContinue;
    GUID key{};
    GUID provider{};
    GUID sub_layer{};
    GUID callout{};
    uint16_t layer = 0;
    SessionId owner = 0;
};

// One consistent set of objects. Copied by a transaction, changed there, and swapped in at its commit.
struct Configuration
{
    std::map<GUID, std::shared_ptr<const Provider>, GuidLess> providers;
    std::map<GUID, std::shared_ptr<const SubLayer>, GuidLess> sub_layers;
    std::map<GUID, std::shared_ptr<const ManagedCallout>, GuidLess> callouts;
    std::map<uint64_t, std::shared_ptr<Filter>> filters;
};

} // namespace sim::wfp
