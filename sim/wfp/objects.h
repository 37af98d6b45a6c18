// The objects that sessions add to the engine, and the runtime side of callouts.
//
// Concurrency: configurations and snapshots share objects.
// An object does not change once a configuration with it is committed.
// The callout's notifyFn sets Filter::runtime before the commit.
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

// The id 0 belongs to no session: such objects stay until they are deleted.
using SessionId = uint64_t;

struct Provider
{
    GUID key{};
    SessionId owner = 0;
};

struct SubLayer
{
    GUID key{};
    GUID provider{}; // zero where there is none, as in all objects
    uint16_t weight = 0;
    uint64_t order = 0; // position in the order of additions; breaks ties of weight
    SessionId owner = 0;
};

// An object of FwpmCalloutAdd0. Its functions are found by key.
struct ManagedCallout
{
    GUID key{};
    GUID provider{};
    uint16_t layer = 0;
    UINT32 id = 0;
    SessionId owner = 0;
};

// An object of FwpsCalloutRegister2.
struct RuntimeCallout
{
    FWPS_CALLOUT2 functions{};
    UINT32 id = 0;
    bool had_fault = false;
    bool unregistering = false; // its filters act as if it were not registered
    size_t failures = 0;        // errors that FwpsCalloutUnregisterById0 returned for it
};

// The registered callouts by their run-time ids.
using RuntimeCallouts = std::map<UINT32, RuntimeCallout>;

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
    FWPS_FILTER2 runtime{}; // the filter as a callout sees it
    UINT64 weight = 0;      // runtime.weight points to this member
    uint64_t epoch = 0;     // of the commit that added it
    FilterKind kind = FilterKind::kContinue;
    GUID key{};
    GUID provider{};
    GUID sub_layer{};
    GUID callout{};
    uint16_t layer = 0;
    SessionId owner = 0;
};

// One consistent set of objects. A transaction copies it, changes the copy and swaps it in at its commit.
struct Configuration
{
    std::map<GUID, std::shared_ptr<const Provider>, GuidLess> providers;
    std::map<GUID, std::shared_ptr<const SubLayer>, GuidLess> sub_layers;
    std::map<GUID, std::shared_ptr<const ManagedCallout>, GuidLess> callouts;
    std::map<uint64_t, std::shared_ptr<Filter>> filters;
};

} // namespace sim::wfp
