#include "net/flow_table.h"

namespace sim::net
{
namespace
{

Tuple TupleOf(const FlowIdentity &flow)
{
    return IsIcmp(flow.protocol)
               ? MakeIcmpTuple(flow.protocol, flow.local, flow.remote, flow.echo_identifier, flow.direction)
               : MakeTuple(flow.protocol, flow.local, flow.remote);
}

} // namespace

Flow *FlowTable::Allocate()
{
    Flow *flow = free_.Get();

    if (flow == nullptr)
    {
        flow = Make();
    }
    if (flow == nullptr)
    {
        return nullptr;
    }
    now_.fetch_add(1, std::memory_order_relaxed);
    total_.fetch_add(1, std::memory_order_relaxed);
    flow->references_.store(1, std::memory_order_release);
    return flow;
}

Flow *FlowTable::Make()
{
    const std::lock_guard<std::mutex> lock(making_);
    const uint64_t index = made_.load(std::memory_order_relaxed);
    uint64_t size = kFirstChunk;
    uint64_t first = 0;
    size_t chunk = 0;

    for (; index >= first + size; first += size, size *= 2)
    {
        ++chunk;
    }
    if (chunk >= kChunks)
    {
        return nullptr;
    }
    if (chunks_[chunk] == nullptr)
    {
        chunks_[chunk] = std::make_unique<Flow[]>(size);
    }

    Flow *flow = &chunks_[chunk][index - first];

    flow->context_.resources = &resources_;
    flow->context_.host = &host_;
    flow->id_.store(index + 1, std::memory_order_relaxed);
    made_.store(index + 1, std::memory_order_release);
    return flow;
}

Flow &FlowTable::At(uint64_t index)
{
    uint64_t size = kFirstChunk;
    size_t chunk = 0;

    for (; index >= size; index -= size, size *= 2)
    {
        ++chunk;
    }
    return chunks_[chunk][index];
}

FlowRef FlowTable::Reference(Flow &flow)
{
    uint32_t references = flow.references_.load(std::memory_order_relaxed);

    do
    {
        if (references == 0)
        {
            return FlowRef();
        }
    } while (!flow.references_.compare_exchange_weak(references, references + 1, std::memory_order_acquire));
    return FlowRef(&flow);
}

FlowRef FlowTable::Find(FlowId id)
{
    const uint64_t number = id & ((uint64_t{1} << kIndexBits) - 1);

    if (number == 0 || number > made_.load(std::memory_order_acquire))
    {
        return FlowRef();
    }

    FlowRef flow = Reference(At(number - 1));

    return flow && flow->id() == id ? std::move(flow) : FlowRef();
}

void FlowTable::Recycle(Flow *flow)
{
    const uint64_t id = flow->id();
    const uint64_t generation = ((id >> kIndexBits) + 1) % kGenerations;

    flow->id_.store((id & ((uint64_t{1} << kIndexBits) - 1)) | generation << kIndexBits, std::memory_order_release);
    now_.fetch_sub(1, std::memory_order_relaxed);
    free_.Put(flow);
}

bool FlowTable::Index(Flow *flow)
{
    flow->tuple_ = TupleOf(flow->identity());

    const uint64_t hash = Hash(flow->tuple_);
    Shard &shard = ShardOf(hash);
    const std::lock_guard<SpinLock> lock(shard.lock);

    if (shard.count >= shard.buckets.size())
    {
        GrowLocked(shard);
    }

    Flow *&bucket = BucketOf(shard, hash);

    for (Flow *other = bucket; other != nullptr; other = other->next_in_bucket_)
    {
        if (other->tuple_ == flow->tuple_)
        {
            return false;
        }
    }
    flow->next_in_bucket_ = bucket;
    flow->indexed_ = true;
    bucket = flow;
    ++shard.count;
    return true;
}

void FlowTable::Unindex(Flow *flow)
{
    if (!flow->indexed_)
    {
        return;
    }

    const uint64_t hash = Hash(flow->tuple_);
    Shard &shard = ShardOf(hash);
    const std::lock_guard<SpinLock> lock(shard.lock);

    for (Flow **link = &BucketOf(shard, hash); *link != nullptr; link = &(*link)->next_in_bucket_)
    {
        if (*link == flow)
        {
            *link = flow->next_in_bucket_;
            --shard.count;
            break;
        }
    }
    flow->indexed_ = false;
}

FlowRef FlowTable::Find(const Tuple &tuple)
{
    const uint64_t hash = Hash(tuple);
    Shard &shard = ShardOf(hash);
    const std::lock_guard<SpinLock> lock(shard.lock);

    if (shard.buckets.empty())
    {
        return FlowRef();
    }
    for (Flow *flow = BucketOf(shard, hash); flow != nullptr; flow = flow->next_in_bucket_)
    {
        if (flow->tuple_ == tuple)
        {
            flow->AddReference(); // safe: an indexed flow has a reference to itself
            return FlowRef(flow);
        }
    }
    return FlowRef();
}

void FlowTable::GrowLocked(Shard &shard)
{
    std::vector<Flow *> old = std::move(shard.buckets);

    shard.buckets.assign(old.empty() ? kFirstBuckets : old.size() * 2, nullptr);
    for (Flow *flow : old)
    {
        while (flow != nullptr)
        {
            Flow *next = flow->next_in_bucket_;
            Flow *&bucket = BucketOf(shard, Hash(flow->tuple_));

            flow->next_in_bucket_ = bucket;
            bucket = flow;
            flow = next;
        }
    }
}

} // namespace sim::net
