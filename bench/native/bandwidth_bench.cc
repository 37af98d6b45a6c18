// Adding one packet's bytes to the counters of its connection, in random order over 100,000 connections.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>

#include "keys.h"
#include "ordered_map_table.h"

extern "C"
{
#include "bandwidth.h"
}

namespace bench
{
namespace
{

class NetverdictCounters
{
  public:
    explicit NetverdictCounters(const std::vector<CONNECTION_KEY> &keys)
    {
        MemoryInitialize(&memory_);
        if (!NT_SUCCESS(LogInitialize(&log_, &memory_)) ||
            !NT_SUCCESS(BandwidthInitialize(&bandwidth_, &memory_, &log_, 2 * keys.size())))
        {
            std::abort();
        }
        for (const CONNECTION_KEY &key : keys)
        {
            Add(key);
        }
    }

    ~NetverdictCounters()
    {
        BandwidthUninitialize(&bandwidth_);
        LogUninitialize(&log_);
    }

    bool Add(const CONNECTION_KEY &key) { return NT_SUCCESS(BandwidthAdd(&bandwidth_, &key, 1460, 0)); }

  private:
    MEMORY memory_;
    LOG log_;
    BANDWIDTH bandwidth_;
};

struct PeerBytes
{
    std::atomic<uint64_t> transmitted{0};
    std::atomic<uint64_t> received{0};

    PeerBytes() = default;

    PeerBytes(const PeerBytes &other) : transmitted(other.transmitted.load()), received(other.received.load()) {}
};

class PeerCounters
{
  public:
    explicit PeerCounters(const std::vector<CONNECTION_KEY> &keys)
    {
        for (const CONNECTION_KEY &key : keys)
        {
            table_.Insert(key, PeerBytes());
        }
    }

    bool Add(const CONNECTION_KEY &key)
    {
        return table_.Find(key, [](PeerBytes &bytes) { bytes.transmitted.fetch_add(1460, std::memory_order_relaxed); });
    }

  private:
    OrderedMapTable<PeerBytes> table_;
};

template <typename Counters> void Update(benchmark::State &state)
{
    const std::vector<CONNECTION_KEY> keys = ShuffledKeys(static_cast<uint32_t>(state.range(0)), Ports::kSpread);
    auto counters = std::make_unique<Counters>(keys);
    size_t next = 0;
    for (auto _ : state)
    {
        if (!counters->Add(keys[next]))
        {
            state.SkipWithError("bytes were not counted");
            break;
        }
        next = next + 1 == keys.size() ? 0 : next + 1;
    }
}

BENCHMARK_TEMPLATE(Update, NetverdictCounters)->Name("bandwidth/netverdict")->Arg(100000);
BENCHMARK_TEMPLATE(Update, PeerCounters)->Name("bandwidth/ordered-map")->Arg(100000);

} // namespace
} // namespace bench
