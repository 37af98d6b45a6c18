// Objects that wait to be used again, linked through their `next_free` member. Threads have lists of their own as long
// as there are no more than kShards of them.
//
// Concurrency: everything may be called from any thread.
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
    // `limit`: objects that one shard keeps at most.
    explicit FreeList(size_t limit) : limit_(limit) {}

    // nullptr where there is none.
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

    // False: the list is full, and the object stays the caller's.
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

    // Takes everything out, for the end.
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
