// Objects that wait for reuse, linked through their `next_free` member.
// Each thread has its own list, unless there are more than kShards threads.
//
// Concurrency: any thread may call it.
#pragma once

#include "net/spin_lock.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>

namespace sim::net
{

inline size_t ThreadNumber()
{
    static std::atomic<size_t> next{0};
    thread_local const size_t number = next.fetch_add(1, std::memory_order_relaxed);
    return number;
}

template <typename T> class FreeList
{
  public:
    // One shard keeps `limit` objects at most.
    explicit FreeList(size_t limit) : limit_(limit) {}

    // Returns nullptr if the list is empty.
    T *Get()
    {
        Shard &shard = OfThread();
        const std::lock_guard<SpinLock> lock(shard.lock);
        T *object = shard.first;

        if (object != nullptr)
        {
            shard.first = object->next_free;
            --shard.count;
        }
        return object;
    }

    // Returns false if the list is full. The caller keeps the object then.
    bool Put(T *object)
    {
        Shard &shard = OfThread();
        const std::lock_guard<SpinLock> lock(shard.lock);

        if (shard.count >= limit_)
        {
            return false;
        }
        object->next_free = shard.first;
        shard.first = object;
        ++shard.count;
        return true;
    }

    // Takes every object out.
    template <typename Consumer> void Drain(Consumer consumer)
    {
        for (Shard &shard : shards_)
        {
            const std::lock_guard<SpinLock> lock(shard.lock);

            while (shard.first != nullptr)
            {
                T *object = shard.first;
                shard.first = object->next_free;
                consumer(object);
            }
            shard.count = 0;
        }
    }

  private:
    static constexpr size_t kShards = 16;

    struct alignas(64) Shard
    {
        SpinLock lock;
        T *first = nullptr;
        size_t count = 0;
    };

    Shard &OfThread() { return shards_[ThreadNumber() % kShards]; }

    const size_t limit_;
    std::array<Shard, kShards> shards_;
};

} // namespace sim::net
