// Events for the session's client, encoded for the control protocol, until the client reads them.
//
// Concurrency: every function may be called from any thread.
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
    void Begin(); // starts a new session without the events of the last one
    void End();
    uint64_t session() const;

    // Dropped if there is no session.
    void Push(ControlEvent kind, uint64_t tag, const Writer &body);

    // Returns whether a read of the session's events has a result: events, or the end of the session.
    bool IsReadable(uint64_t session) const;

    // Takes as many whole events as fit. Returns their bytes; 0: there are none; negative: the session has ended.
    int64_t Take(uint64_t session, uint8_t *buffer, size_t capacity);

  private:
    mutable std::mutex mutex_;
    uint64_t session_ = 0;
    bool ended_ = true;
    std::deque<std::vector<uint8_t>> events_;
};

} // namespace sim::wine
