// One classify whose decision is pending. The driver pended the operation, or kept a copy of the packet, or both.
// The hold posts to its flow what the driver does with them.
//
// Concurrency: references are counted. The filter engine's callbacks come on any thread.
// A hold in use keeps its flow and the stack's resources alive.
#pragma once

#include "net/indication.h"
#include "net/packet.h"

#include "wfp/engine.h"

#include <atomic>
#include <cstdint>
#include <memory>

namespace sim::net
{

class Deadlines;
class Hold;
class Resources;

struct HoldEvent
{
    enum Kind : uint8_t
    {
        kCompleted, // the driver completed the pended operation
        kInjected,  // the driver injected a copy, which is `packet`
        kDropped,   // the driver freed the last copy
        kTimeout,
    };

    Kind kind = kTimeout;
    Hold *hold = nullptr; // counted while the event is queued
    PacketPtr packet;
    wfp::Injection::Kind injection = wfp::Injection::kNetworkSend;

    HoldEvent(Kind kind_of_event, Hold *hold_of_event) : kind(kind_of_event), hold(hold_of_event) {}
};

// The flow that a hold belongs to.
class HoldOwner
{
  public:
    virtual const FlowIdentity &identity() const = 0;
    virtual void Post(HoldEvent event) = 0;

    // The endpoint handle is invalid, because the socket has closed. Any thread may ask while it has a reference.
    virtual bool endpoint_closed() const = 0;

    virtual void AddReference() = 0;
    virtual void Release() = 0;
    virtual std::shared_ptr<Resources> ShareResources() = 0;

  protected:
    ~HoldOwner() = default;
};

class Hold final : public wfp::PacketOrigin
{
  public:
    explicit Hold(HoldOwner &owner) : owner_(owner) {}

    HoldOwner &owner() { return owner_; }

    void AddReference() { references_.fetch_add(1, std::memory_order_relaxed); }
    void ReleaseReference();

    // Before a classify that may pend: keeps the owner alive, and counts the completion to come.
    void ExpectCompletion();
    // After that classify, if it did not pend.
    void NoCompletion();

    // Keeps the owner alive as long as the hold is referenced.
    void KeepOwner();

    // The driver kept something of the classify: the hold cannot serve another one.
    bool used() const { return used_; }
    void set_used() { used_ = true; }

    // True for the first copy that is injected.
    bool TakeDelivery() { return !delivered_.exchange(true); }

    // Post to the owner: the driver completed the operation, dropped the last copy, or did neither in time.
    void Complete();
    void Drop();
    void TimeOut();

  private:
    friend class Deadlines;

    ~Hold();

    void Retain() override;
    void Release() override;
    void OnInjected() override;
    void OnDropped() override;

    HoldOwner &owner_;
    std::shared_ptr<Resources> resources_; // while in use
    std::atomic<uint32_t> references_{1};
    std::atomic<bool> delivered_{false};
    bool used_ = false; // belongs to the thread that classifies

    Hold *previous_ = nullptr; // Deadlines owns this member and the next three
    Hold *next_ = nullptr;
    uint64_t deadline_ = 0;
    bool listed_ = false;
};

} // namespace sim::net
