// One direction of a captured TCP connection: gives every payload byte once, in order. Sequence numbers wrap around.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

namespace sim::sources
{

class StreamAssembly
{
  public:
    // A run of the stream. Its bytes are valid during the call.
    using Sink = std::function<void(const uint8_t *bytes, size_t length)>;

    // The stream begins with this sequence number, if that is not known yet.
    void Begin(uint32_t sequence);

    // Payload of a segment. What is new and next in order goes to the sink, with what waited for it.
    void Add(uint32_t sequence, const uint8_t *bytes, size_t length, const Sink &sink);

    // The stream ends before this sequence number, which the FIN has.
    void SetEnd(uint32_t sequence);

    // The other end has everything before this sequence number: what the capture misses of it is skipped.
    void Acknowledge(uint32_t sequence, const Sink &sink);

    // Gives what is left, and skips what is missing.
    void Finish(const Sink &sink);

    uint64_t gaps() const { return gaps_; }
    uint64_t gap_bytes() const { return gap_bytes_; }

  private:
    static constexpr size_t kMostSegments = 1024;
    static constexpr size_t kMostBytes = 4 * 1024 * 1024;

    // Sequence numbers as they would be without wrapping around, near the expected one.
    int64_t Unwrap(uint32_t sequence) const;
    void Store(int64_t position, const uint8_t *bytes, size_t length);
    void GiveStored(const Sink &sink);
    void SkipTo(int64_t position);

    bool begun_ = false;
    bool has_end_ = false;
    int64_t next_ = 0;
    int64_t end_ = 0;
    std::map<int64_t, std::vector<uint8_t>> waiting_; // by position; may overlap
    size_t waiting_bytes_ = 0;
    uint64_t gaps_ = 0;
    uint64_t gap_bytes_ = 0;
};

} // namespace sim::sources
