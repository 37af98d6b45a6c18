#include "net/resources.h"

#include "machine.h"
#include "nt/clock.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace sim::net
{

Resources::Resources(Machine &machine)
    : machine_(machine), engine_(machine.wfp()), packets_(machine), deadlines_(std::make_shared<Deadlines>(machine))
{
}

uint64_t Resources::now() const
{
    return machine_.clock().UnbiasedTime();
}

void Resources::End()
{
    ended_.store(true, std::memory_order_relaxed);
    deadlines_->End();
}

void Resources::FreeJobs()
{
    jobs_.Drain([](Job *job) { delete job; });
}

void Resources::PolicyChanged()
{
    for (std::atomic<uint32_t> &policy : policies_)
    {
        policy.fetch_add(1, std::memory_order_release);
    }
}

void Resources::PolicyChanged(Direction direction, uint8_t family)
{
    policies_[PolicyIndex(direction, family)].fetch_add(1, std::memory_order_release);
}

Job *Resources::NewJob()
{
    Job *job = jobs_.Get();

    return job == nullptr ? new Job : job;
}

void Resources::Recycle(Job *job)
{
    job->Reset();
    if (!jobs_.Put(job))
    {
        delete job;
    }
}

PacketPtr Resources::CopyPacket(const uint8_t *bytes, size_t length)
{
    PacketPtr packet = packets_.Get(length);

    if (packet != nullptr)
    {
        std::copy_n(bytes, length, packet->bytes());
        if (!packet->Parse())
        {
            return nullptr;
        }
    }
    return packet;
}

PacketPtr Resources::Reassemble(const Packet &fragment)
{
    Reassembly::Whole made = reassembly_.Add(fragment);
    PacketPtr whole = made.bytes.empty() ? nullptr : NewPacket(made.bytes.size());

    if (whole == nullptr)
    {
        return nullptr;
    }
    std::copy(made.bytes.begin(), made.bytes.end(), whole->bytes());
    whole->link = fragment.link;
    whole->loopback = fragment.loopback;
    whole->reassembled = true;
    whole->fragments = std::move(made.fragments);
    return whole->Parse() ? std::move(whole) : nullptr;
}

void Resources::ObserveWire(const void *observer, WireObserver callback)
{
    const std::lock_guard<std::mutex> lock(wire_mutex_);
    auto observers = wire_observers_ == nullptr ? std::make_shared<WireObservers>()
                                                : std::make_shared<WireObservers>(*wire_observers_);

    observers->erase(observer);
    if (callback != nullptr)
    {
        observers->emplace(observer, std::move(callback));
    }
    is_observed_.store(!observers->empty(), std::memory_order_release);
    wire_observers_ = std::move(observers);
}

void Resources::NotifyWire(Direction direction, const Packet &packet)
{
    if (!is_observed_.load(std::memory_order_acquire))
    {
        return;
    }
    for (const std::vector<uint8_t> &bytes : packet.fragments)
    {
        const PacketPtr fragment = CopyPacket(bytes.data(), bytes.size());

        if (fragment != nullptr)
        {
            fragment->loopback = packet.loopback;
            NotifyWire(direction, *fragment);
        }
    }
    if (packet.reassembled)
    {
        return;
    }

    std::shared_ptr<const WireObservers> observers;
    {
        const std::lock_guard<std::mutex> lock(wire_mutex_);
        observers = wire_observers_;
    }
    for (const auto &observer : *observers)
    {
        observer.second(direction, packet);
    }
}

} // namespace sim::net
