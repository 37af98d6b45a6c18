// One direction of a captured TCP connection. It gives every payload byte once, in order, across a sequence wrap.
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
    // Gets a run of the stream. The bytes are valid during the call.
    using Sink = std::function<void(const uint8_t *bytes, size_t length)>;

    // The stream begins with this sequence number, unless it has begun already.
    void Begin(uint32_t sequence);

    // Adds payload of a segment.
    // The sink gets the new bytes that are next in order, and the bytes that waited for them.
    void Add(uint32_t sequence, const uint8_t *bytes, size_t length, const Sink &sink);

    // The stream ends before this sequence number, which is the FIN's.
    void SetEnd(uint32_t sequence);

    // The other end has every byte before this sequence number. Bytes that the capture lacks are skipped.
    void Acknowledge(uint32_t sequence, const Sink &sink);

    // Gives the bytes that are left, and skips those that are missing.
    void Finish(const Sink &sink);

    uint64_t gaps() const { return gaps_; }
    uint64_t gap_bytes() const { return gap_bytes_; }

  private:
    static constexpr size_t kMostSegments = 1024;
    static constexpr size_t kMostBytes = 4 * 1024 * 1024;

    // Converts a sequence number to a position, which does not wrap, near the expected one.
    int64_t Unwrap(uint32_t sequence) const;
    void Store(int64_t position, const uint8_t *bytes, size_t length);
    void GiveStored(const Sink &sink);
    void SkipTo(int64_t position);

    bool begun_ = false;
    bool has_end_ = false;
    int64_t next_ = 0;
    int64_t end_ = 0;
    std::map<int64_t, std::vector<uint8_t>> waiting_; // by position; entries may overlap
    size_t waiting_bytes_ = 0;
    uint64_t gaps_ = 0;
    uint64_t gap_bytes_ = 0;
};

} // namespace sim::sources
