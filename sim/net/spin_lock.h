// A lock for a few instructions. Without contention it costs one atomic exchange.
#pragma once

#include <atomic>
#include <thread>

namespace sim::net
{

class SpinLock
{
  public:
    void lock()
    {
        for (unsigned tries = 0; locked_.exchange(true, std::memory_order_acquire); ++tries)
        {
            while (locked_.load(std::memory_order_relaxed))
            {
                if (++tries > kTriesBeforeYield)
                {
                    std::this_thread::yield();
                }
            }
        }
    }

    void unlock() { locked_.store(false, std::memory_order_release); }

  private:
    static constexpr unsigned kTriesBeforeYield = 64;

    std::atomic<bool> locked_{false};
};

} // namespace sim::net
