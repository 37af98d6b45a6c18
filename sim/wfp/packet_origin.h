// What became of a packet that a classify was given. A net buffer list that the driver allocates inside a classify is a
// copy of the packet being classified; the packet's origin follows its copies.
//
// Concurrency: Retain is called on the classifying thread, inside the classify; everything else on any thread, at IRQL
// <= DISPATCH_LEVEL, with no engine lock held.
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

    // The driver kept its first copy: the origin must stay alive until Release. Called at most once a classify.
    virtual void Retain() = 0;
    virtual void Release() = 0;

    // Exactly one of these, once, for an origin whose classify said has_copies. OnInjected comes just before the
    // injected copy is handed to InjectionTarget::Deliver, on the same thread; OnDropped when the last copy is freed
    // and none was injected.
    virtual void OnInjected() = 0;
    virtual void OnDropped() = 0;

    std::atomic<uint32_t> copies_{0};
    std::atomic<bool> resolved_{false};
};

} // namespace sim::wfp
