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
    void Begin(); // a session: nothing is left of another
    void End();

    // Forgotten where there is no session.
    void Push(ControlEvent kind, uint64_t tag, const Writer &body);

    // Whether a read would give something: events, or the session's end.
    bool IsReadable() const;

    // Whole events, as many as fit: their bytes; 0: there are none; negative: the session has ended.
    int64_t Take(uint8_t *buffer, size_t capacity);

  private:
    mutable std::mutex mutex_;
    bool ended_ = true;
    std::deque<std::vector<uint8_t>> events_;
};

} // namespace sim::wine
