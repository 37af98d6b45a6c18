// Lookup and touch of a connection among many, in random order: what every packet of a known connection costs.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>

#include "keys.h"
#include "ordered_map_table.h"

namespace bench
{
namespace
{

class NetverdictTable
{
  public:
    explicit NetverdictTable(const std::vector<CONNECTION_KEY> &keys)
    {
        ClockInitialize(&clock_);
        MemoryInitialize(&memory_);
        Check(ConnectionTableInitialize(&table_, &memory_, &clock_, keys.size()));
        CONNECTION_STATE state;
        for (const CONNECTION_KEY &key : keys)
        {
            Check(ConnectionTableFindOrInsert(&table_, &key, 1000, 0, &state));
            ConnectionTableSetVerdict(&table_, &key, VerdictPermanentAccept, &state);
        }
    }

    ~NetverdictTable() { ConnectionTableUninitialize(&table_); }

    uint8_t LookupVerdict(const CONNECTION_KEY &key)
    {
        CONNECTION_STATE state;
        return ConnectionTableLookup(&table_, &key, &state) ? state.Verdict : 0xFF;
    }

  private:
    static void Check(NTSTATUS status)
    {
        if (!NT_SUCCESS(status))
        {
            std::abort();
        }
    }

    CLOCK clock_;
    MEMORY memory_;
    CONNECTION_TABLE table_;
};

struct PeerConnection
{
    uint64_t process_id;
    std::atomic<uint64_t> last_use;
    uint8_t verdict;

    PeerConnection(uint64_t process, uint8_t given) : process_id(process), last_use(0), verdict(given) {}

    PeerConnection(const PeerConnection &other)
        : process_id(other.process_id), last_use(other.last_use.load()), verdict(other.verdict)
    {
    }
};

class PeerTable
{
  public:
    explicit PeerTable(const std::vector<CONNECTION_KEY> &keys)
    {
        for (const CONNECTION_KEY &key : keys)
        {
            table_.Insert(key, PeerConnection(1000, VerdictPermanentAccept));
        }
    }

    uint8_t LookupVerdict(const CONNECTION_KEY &key)
    {
        uint8_t verdict = 0xFF;
        table_.Find(key,
                    [&verdict](PeerConnection &connection)
                    {
                        connection.last_use.store(KeQueryInterruptTime(), std::memory_order_relaxed);
                        verdict = connection.verdict;
                    });
        return verdict;
    }

  private:
    OrderedMapTable<PeerConnection> table_;
};

template <typename Table, Ports kPorts> void LookupAndTouch(benchmark::State &state)
{
    const std::vector<CONNECTION_KEY> keys = ShuffledKeys(static_cast<uint32_t>(state.range(0)), kPorts);
    auto table = std::make_unique<Table>(keys);
    size_t next = 0;
    for (auto _ : state)
    {
        if (table->LookupVerdict(keys[next]) != VerdictPermanentAccept)
        {
            state.SkipWithError("a connection was not found");
            break;
        }
        next = next + 1 == keys.size() ? 0 : next + 1;
    }
}

BENCHMARK_TEMPLATE(LookupAndTouch, NetverdictTable, Ports::kSpread)
    ->Name("lookup/netverdict/spread")
    ->Arg(1000)
    ->Arg(100000)
    ->Arg(1000000);
BENCHMARK_TEMPLATE(LookupAndTouch, NetverdictTable, Ports::kOne)
    ->Name("lookup/netverdict/one-port")
    ->Arg(1000)
    ->Arg(100000)
    ->Arg(1000000);
BENCHMARK_TEMPLATE(LookupAndTouch, PeerTable, Ports::kSpread)
    ->Name("lookup/ordered-map/spread")
    ->Arg(1000)
    ->Arg(100000)
    ->Arg(1000000);
BENCHMARK_TEMPLATE(LookupAndTouch, PeerTable, Ports::kOne)
    ->Name("lookup/ordered-map/one-port")
    ->Arg(1000)
    ->Arg(100000)
    ->Arg(1000000);

} // namespace
} // namespace bench
