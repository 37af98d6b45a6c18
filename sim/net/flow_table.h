// All flows of a stack, by id and by tuple.
// The memory of flows is kept until the stack ends, so that a lookup can detect a stale id.
//
// Concurrency: any thread may call it.
#pragma once

#include "net/flow.h"
#include "net/free_list.h"
#include "net/spin_lock.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace sim::net
{

class FlowTable
{
  public:
    FlowTable(Resources &resources, FlowHost &host) : resources_(resources), host_(host) {}

    FlowTable(const FlowTable &) = delete;
    FlowTable &operator=(const FlowTable &) = delete;

    // Returns a flow with one reference, which the caller owns, or nullptr if there are too many flows.
    Flow *Allocate();

    FlowRef Find(FlowId id);

    // Takes back a flow without references, and gives it another id.
    void Recycle(Flow *flow);

    // Returns false if another flow has the same tuple.
    bool Index(Flow *flow);
    void Unindex(Flow *flow);
    FlowRef Find(const Tuple &tuple);

    // Calls `visit` for every flow in use.
    template <typename Visitor> void ForEach(Visitor visit)
    {
        const uint64_t count = made_.load(std::memory_order_acquire);

        for (uint64_t index = 0; index < count; ++index)
        {
            const FlowRef flow = Reference(At(index));

            if (flow)
            {
                visit(*flow.get());
            }
        }
    }

    uint64_t now() const { return now_.load(std::memory_order_relaxed); }
    uint64_t total() const { return total_.load(std::memory_order_relaxed); }

  private:
    static constexpr uint64_t kFirstChunk = 256; // each further chunk is twice as large
    static constexpr size_t kChunks = 20;
    static constexpr unsigned kIndexBits = 32;
    static constexpr uint64_t kGenerations = 1 << 20;
    static constexpr size_t kShards = 64;
    static constexpr size_t kFirstBuckets = 64;

    struct alignas(64) Shard
    {
        SpinLock lock;
        std::vector<Flow *> buckets;
        size_t count = 0;
    };

    Flow *Make();
    Flow &At(uint64_t index);
    static FlowRef Reference(Flow &flow);

    Shard &ShardOf(uint64_t hash) { return shards_[hash % kShards]; }
    static Flow *&BucketOf(Shard &shard, uint64_t hash)
    {
        return shard.buckets[(hash / kShards) & (shard.buckets.size() - 1)];
    }
    static void GrowLocked(Shard &shard);

    Resources &resources_;
    FlowHost &host_;
    std::mutex making_;
    std::array<std::unique_ptr<Flow[]>, kChunks> chunks_;
    std::atomic<uint64_t> made_{0};
    std::atomic<uint64_t> now_{0};
    std::atomic<uint64_t> total_{0};
    FreeList<Flow> free_{SIZE_MAX};
    std::array<Shard, kShards> shards_;
};

} // namespace sim::net
