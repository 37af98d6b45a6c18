// The peer of the connection table and of the bandwidth counters: the usual design of such drivers. An ordered map
// from (protocol, local port) to the vector of that port's connections, all under one reader-writer spin lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

extern "C"
{
#include "platform.h"

#include "connection_table.h"
}

namespace bench
{

// Writer bit and reader count in one word, as EX_SPIN_LOCK has it.
class ReaderWriterSpinLock
{
  public:
    void LockShared()
    {
        for (;;)
        {
            uint32_t value = word_.load(std::memory_order_relaxed);
            if ((value & kWriter) == 0 && word_.compare_exchange_weak(value, value + 1, std::memory_order_acquire))
            {
                return;
            }
        }
    }

    void UnlockShared() { word_.fetch_sub(1, std::memory_order_release); }

    void Lock()
    {
        uint32_t expected = 0;
        while (!word_.compare_exchange_weak(expected, kWriter, std::memory_order_acquire))
        {
            expected = 0;
        }
    }

    void Unlock() { word_.store(0, std::memory_order_release); }

  private:
    static constexpr uint32_t kWriter = 0x80000000u;
    std::atomic<uint32_t> word_{0};
};

template <typename Value> class OrderedMapTable
{
  public:
    void Insert(const CONNECTION_KEY &key, const Value &value)
    {
        lock_.Lock();
        ports_[PortOf(key)].emplace_back(key, value);
        lock_.Unlock();
    }

    // Calls use(Value&) on the entry; false when there is none.
    template <typename Use> bool Find(const CONNECTION_KEY &key, Use use)
    {
        lock_.LockShared();
        bool found = false;
        auto port = ports_.find(PortOf(key));
        if (port != ports_.end())
        {
            for (auto &[entryKey, value] : port->second)
            {
                if (std::memcmp(&entryKey, &key, sizeof key) == 0)
                {
                    use(value);
                    found = true;
                    break;
                }
            }
        }
        lock_.UnlockShared();
        return found;
    }

  private:
    using Port = std::pair<uint8_t, uint16_t>;

    static Port PortOf(const CONNECTION_KEY &key) { return {key.Protocol, key.LocalPort}; }

    ReaderWriterSpinLock lock_;
    std::map<Port, std::vector<std::pair<CONNECTION_KEY, Value>>> ports_;
};

} // namespace bench
