#include "sources/flow_load.h"

#include "byte_order.h"
#include "net/ip_packet.h"

#include "machine.h"
#include "nt/scheduler.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <mutex>
#include <utility>
#include <vector>

namespace sim::sources
{
namespace
{

constexpr std::chrono::milliseconds kLongestWait(50);

// Each flow has its own remote endpoint. A local port is reused as late as possible.
constexpr uint32_t kFirstRemoteV4 = 0x0B000001; // 11.0.0.1
constexpr uint16_t kRemotePort = 443;
constexpr uint16_t kFirstLocalPort = 1024;
constexpr uint64_t kLocalPorts = 65536 - kFirstLocalPort;

} // namespace

// The flows of one run.
class FlowLoad::Batch
{
  public:
    Batch(Machine &machine, const FlowLoadOptions &options, std::atomic<bool> *stop)
        : machine_(machine), stack_(machine.net()), options_(options), stop_(stop),
          payload_(std::max<size_t>(options.payload_length, 1), uint8_t{0x5A}), slots_(options.in_flight)
    {
        spec_.protocol = options.protocol;
        spec_.process_id = options.process_id;
        spec_.local.family = options.ip_version;
        spec_.remote.family = options.ip_version;
        spec_.remote.port = kRemotePort;
        SetAddress(&spec_.local.address, 0x0A000002);
        if (options.protocol != net::kProtocolTcp)
        {
            spec_.payload.assign(options.payload_length, 0x5A);
        }
        for (Slot &slot : slots_)
        {
            slot.batch = this;
            free_.push_back(&slot);
        }
    }

    FlowLoadResult Run()
    {
        const auto start = std::chrono::steady_clock::now();

        for (uint64_t number = 0; number < options_.connections && !stop_->load(); ++number)
        {
            while (free_.empty() && !stop_->load())
            {
                Collect((slots_.size() + 1) / 2); // in batches: one wake-up for each flow would cost more than the flow
            }
            if (!free_.empty())
            {
                Begin(number);
            }
        }
        while (free_.size() != slots_.size())
        {
            if (stop_->load())
            {
                Abandon();
            }
            Collect(slots_.size() - free_.size());
        }
        result_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        return result_;
    }

  private:
    enum State : uint8_t
    {
        kBegun,
        kReturned, // Connect has returned without an outcome
        kDecided   // the outcome came before Connect returned
    };

    struct Slot
    {
        Batch *batch = nullptr;
        std::atomic<uint8_t> state{kBegun};
        std::atomic<uint64_t> packets{0}; // without an outcome, and one more while they are sent
        bool sending = false;             // the first packet has its outcome
        net::OutcomeKind kind = net::OutcomeKind::kPermitted;
        net::FlowId flow = 0;
        std::chrono::steady_clock::time_point begun; // set with one flow at a time
        bool in_use = false;                         // belongs to the running thread
    };

    void SetAddress(net::Endpoint *endpoint, uint32_t number) { SetAddress(&endpoint->address, number); }

    void SetAddress(std::array<uint8_t, 16> *address, uint32_t number)
    {
        const size_t last = options_.ip_version == net::kIpv6 ? 16 : 4;

        if (options_.ip_version == net::kIpv6)
        {
            (*address)[0] = 0xFD;
            (*address)[1] = 0x01;
        }
        StoreBig32(address->data() + last - sizeof(number), number);
    }

    void Begin(uint64_t number)
    {
        Slot *slot = free_.back();

        free_.pop_back();
        slot->in_use = true;
        if (slots_.size() == 1)
        {
            slot->begun = std::chrono::steady_clock::now();
        }
        slot->state.store(kBegun, std::memory_order_relaxed);
        slot->sending = false;
        spec_.local.port = static_cast<uint16_t>(kFirstLocalPort + number % kLocalPorts);
        SetAddress(&spec_.remote, kFirstRemoteV4 + static_cast<uint32_t>(number));
        slot->flow =
            stack_.Connect(spec_, [slot](const net::Outcome &outcome) { slot->batch->Decided(slot, outcome); });
        if (slot->state.exchange(kReturned, std::memory_order_acq_rel) == kDecided)
        {
            Continue(slot);
        }
    }

    // Runs on any thread.
    void Decided(Slot *slot, const net::Outcome &outcome)
    {
        slot->kind = outcome.kind;
        if (slot->state.exchange(kDecided, std::memory_order_acq_rel) == kBegun)
        {
            return;
        }
        List(slot);
    }

    // Leaves the slot to the running thread.
    void List(Slot *slot)
    {
        // The batch may end as soon as the slot is listed.
        // WaitUntil takes mutex_ under the scheduler's lock, so Wake must not be called under mutex_.
        Machine &machine = machine_;
        bool enough;

        {
            const std::lock_guard<std::mutex> lock(mutex_);

            decided_.push_back(slot);
            enough = decided_.size() == wanted_;
        }
        if (enough)
        {
            machine.scheduler().Wake();
        }
    }

    // Waits until `wanted` flows are decided, or their packets are, on other threads. Sends packets, or ends the flows.
    void Collect(size_t wanted)
    {
        const auto ready = [this]
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            return decided_.size() >= wanted_ || stop_->load();
        };

        {
            const std::lock_guard<std::mutex> lock(mutex_);
            wanted_ = wanted;
        }
        if (!ready())
        {
            machine_.scheduler().WaitUntil(ready, kLongestWait);
        }
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            wanted_ = SIZE_MAX;
            collected_.swap(decided_);
        }
        for (Slot *slot : collected_)
        {
            if (slot->sending)
            {
                End(slot);
            }
            else
            {
                Continue(slot);
            }
        }
        collected_.clear();
    }

    // Gives up the flows that are not decided. Closing a flow decides it.
    void Abandon()
    {
        for (Slot &slot : slots_)
        {
            if (slot.in_use)
            {
                stack_.Close(slot.flow);
            }
        }
    }

    // Counts the outcome and sends the other packets. The flow ends when each of them has an outcome.
    void Continue(Slot *slot)
    {
        if (slots_.size() == 1)
        {
            result_.latencies.push_back(
                std::chrono::duration<float, std::micro>(std::chrono::steady_clock::now() - slot->begun).count());
        }
        switch (slot->kind)
        {
        case net::OutcomeKind::kPermitted:
            ++result_.permitted;
            SendPackets(slot);
            return;
        case net::OutcomeKind::kRedirected:
            ++result_.redirected;
            SendPackets(slot);
            return;
        case net::OutcomeKind::kBlocked:
            ++result_.blocked;
            break;
        case net::OutcomeKind::kDropped:
        case net::OutcomeKind::kPendingTimeout:
            ++result_.dropped;
            break;
        }
        End(slot);
    }

    void End(Slot *slot)
    {
        if (options_.close || slot->kind != net::OutcomeKind::kPermitted)
        {
            stack_.Close(slot->flow);
        }
        slot->in_use = false;
        free_.push_back(slot);
    }

    void SendPackets(Slot *slot)
    {
        slot->sending = true;
        slot->packets.store(uint64_t{1} + options_.packets_per_connection, std::memory_order_relaxed);
        for (uint32_t i = 0; i < options_.packets_per_connection; ++i)
        {
            const auto send = i % 2 == 0 ? &net::Stack::Send : &net::Stack::Receive;

            (stack_.*send)(slot->flow, payload_.data(), options_.payload_length,
                           [slot](const net::Outcome &)
                           {
                               if (slot->packets.fetch_sub(1, std::memory_order_acq_rel) == 1)
                               {
                                   slot->batch->List(slot);
                               }
                           });
        }
        if (slot->packets.fetch_sub(1, std::memory_order_acq_rel) == 1)
        {
            End(slot);
        }
    }

    Machine &machine_;
    net::Stack &stack_;
    const FlowLoadOptions options_;
    std::atomic<bool> *stop_;
    net::FlowSpec spec_;
    const std::vector<uint8_t> payload_;
    std::vector<Slot> slots_;
    std::vector<Slot *> free_;
    std::vector<Slot *> collected_;
    FlowLoadResult result_;

    std::mutex mutex_;
    std::vector<Slot *> decided_; // or their packets are; mutex_ guards this member and the next
    size_t wanted_ = SIZE_MAX;    // the running thread wakes up when so many are decided
};

FlowLoad::FlowLoad(Machine &machine, const FlowLoadOptions &options) : machine_(machine), options_(options)
{
    options_.in_flight = std::max<uint32_t>(options_.in_flight, 1);
}

FlowLoadResult FlowLoad::Run()
{
    const Machine::Scope scope(machine_);

    return Batch(machine_, options_, &stop_).Run();
}

void FlowLoad::Stop()
{
    stop_.store(true);
    machine_.scheduler().Wake();
}

} // namespace sim::sources
