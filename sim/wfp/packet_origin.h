// The origin of a packet that is classified: it is notified when the packet is injected or dropped.
// A net buffer list that the driver allocates inside a classify is a copy of the classified packet.
//
// Concurrency: Retain is called on the classifying thread, inside the classify.
// The other functions are called on any thread, at IRQL <= DISPATCH_LEVEL, without an engine lock.
#pragma once

#include <atomic>
#include <cstdint>

namespace sim::wfp
{

class PacketOrigin
{
  public:
    PacketOrigin() = default;
    PacketOrigin(const PacketOrigin &) = delete;
    PacketOrigin &operator=(const PacketOrigin &) = delete;

  protected:
    ~PacketOrigin() = default;

  private:
    friend class OriginTracker;

    // The driver kept its first copy: the origin must live until Release. Called at most once for each classify.
    virtual void Retain() = 0;
    virtual void Release() = 0;

    // Exactly one of OnInjected and OnDropped is called, once, for an origin whose classify returned has_copies.
    // OnInjected comes just before InjectionTarget::Deliver gets the injected copy, on the same thread.
    // OnDropped comes when the last copy is freed and none was injected.
    virtual void OnInjected() = 0;
    virtual void OnDropped() = 0;

    std::atomic<uint32_t> copies_{0};
    std::atomic<bool> resolved_{false};
};

} // namespace sim::wfp
