#include "sources/flow_load.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

namespace sim::sources {

namespace {

using Clock = std::chrono::steady_clock;

// Addresses of 10.0.0.0/8 or fd00::/8 that count up: a remote endpoint of its own for each flow.
net::FlowSpec SpecOf(const FlowLoadOptions& options, uint64_t index)
{
    net::FlowSpec spec;
    spec.protocol = options.protocol;
    spec.process_id = options.process_id;
    spec.local.family = spec.remote.family = options.ip_version;
    const size_t last = options.ip_version == 4 ? 3 : 15;
    spec.local.address[0] = spec.remote.address[0] = options.ip_version == 4 ? 10 : 0xFD;
    spec.local.address[last] = 1;
    spec.remote.address[last - 2] = static_cast<uint8_t>(0x80 | (index >> 16 & 0x7F));
    spec.remote.address[last - 1] = static_cast<uint8_t>(index >> 8);
    spec.remote.address[last] = static_cast<uint8_t>(index);
    spec.local.port = static_cast<uint16_t>(1024 + index % 64000);
    spec.remote.port = static_cast<uint16_t>(443 + (index >> 23));
    if (options.protocol == 17)
    {
        spec.payload.assign(options.payload_length, 0);
    }
    return spec;
}

void Exchange(net::Stack& stack, net::FlowId flow, const FlowLoadOptions& options, const std::vector<uint8_t>& payload)
{
    for (uint32_t packet = 0; packet < options.packets_per_connection; ++packet)
    {
        if (packet % 2 == 0)
        {
            stack.Send(flow, payload.data(), payload.size(), {});
        }
        else
        {
            stack.Receive(flow, payload.data(), payload.size(), {});
        }
    }
}

} // namespace

// Counts outcomes, and lets the loading thread wait until enough of them are known.
class FlowLoad::Tally
{
public:
    void Count(uint64_t flow, net::OutcomeKind kind)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        switch (kind)
        {
        case net::OutcomeKind::kPermitted:
            ++result_.permitted;
            break;
        case net::OutcomeKind::kBlocked:
            ++result_.blocked;
            break;
        case net::OutcomeKind::kRedirected:
            ++result_.redirected;
            break;
        case net::OutcomeKind::kDropped:
        case net::OutcomeKind::kPendingTimeout:
            ++result_.dropped;
            break;
        }
        ++decided_;
        newly_decided_.push_back(flow);
        if (decided_ >= wanted_)
        {
            changed_.notify_one();
        }
    }

    void Stop()
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopped_ = true;
        changed_.notify_one();
    }

    // The flows that were decided since the last call, once `count` are decided in all; false: stopped. The waiting
    // thread is woken once, not for every flow.
    bool WaitUntilDecided(uint64_t count, std::vector<uint64_t>* flows)
    {
        std::unique_lock<std::mutex> lock(mutex_);
        wanted_ = count;
        changed_.wait(lock, [&] { return stopped_ || decided_ >= count; });
        wanted_ = UINT64_MAX;
        flows->swap(newly_decided_);
        return !stopped_;
    }

    FlowLoadResult result() const
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        return result_;
    }

private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<uint64_t> newly_decided_;
    FlowLoadResult result_;
    uint64_t decided_ = 0;
    uint64_t wanted_ = UINT64_MAX;
    bool stopped_ = false;
};

FlowLoad::FlowLoad(Machine& machine, const FlowLoadOptions& options)
    : machine_(machine), options_(options), tally_(std::make_shared<Tally>())
{
}

FlowLoad::~FlowLoad() = default;

FlowLoadResult FlowLoad::Run()
{
    const Machine::Scope scope(machine_);
    net::Stack& stack = machine_.net();
    const std::vector<uint8_t> payload(options_.payload_length, 0);
    const Clock::time_point start = Clock::now();
    std::vector<net::FlowId> flows(options_.connections);
    std::vector<uint64_t> decided;
    std::vector<float> latencies;
    uint64_t started = 0;
    uint64_t finished = 0;
    while (finished < options_.connections)
    {
        const Clock::time_point connecting = Clock::now();
        while (started < options_.connections && started - finished < options_.in_flight)
        {
            flows[started] = stack.Connect(SpecOf(options_, started),
                                           [tally = tally_, flow = started](const net::Outcome& outcome) {
                                               tally->Count(flow, outcome.kind);
                                           });
            ++started;
        }
        const uint64_t half = std::min(started, finished + (options_.in_flight + 1) / 2);
        decided.clear();
        if (!tally_->WaitUntilDecided(half, &decided))
        {
            break;
        }
        if (options_.in_flight == 1)
        {
            latencies.push_back(std::chrono::duration<float, std::micro>(Clock::now() - connecting).count());
        }
        for (const uint64_t flow : decided)
        {
            Exchange(stack, flows[flow], options_, payload);
            if (options_.close)
            {
                stack.Close(flows[flow]);
            }
        }
        finished += decided.size();
    }
    FlowLoadResult result = tally_->result();
    result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    result.latencies = std::move(latencies);
    return result;
}

void FlowLoad::Stop()
{
    tally_->Stop();
}

} // namespace sim::sources
