// What the simulation has to tell the session's client, as the control protocol encodes it, until it is read.
//
// Concurrency: everything may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "bytes.h"
#include "control_protocol.h"

namespace sim::wine
{

class EventQueue
{
  public:
    void Begin(); // another session: nothing is left of the last one
    void End();
    uint64_t session() const;

    // Forgotten where there is no session.
    void Push(ControlEvent kind, uint64_t tag, const Writer &body);

    // Whether a read of the session's events would give something: events, or its end.
    bool IsReadable(uint64_t session) const;

    // Whole events, as many as fit: their bytes; 0: there are none; negative: the session has ended.
    int64_t Take(uint64_t session, uint8_t *buffer, size_t capacity);

  private:
    mutable std::mutex mutex_;
    uint64_t session_ = 0;
    bool ended_ = true;
    std::deque<std::vector<uint8_t>> events_;
};

} // namespace sim::wine
