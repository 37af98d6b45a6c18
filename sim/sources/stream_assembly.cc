#include "sources/stream_assembly.h"

#include <algorithm>

namespace sim::sources
{

void StreamAssembly::Begin(uint32_t sequence)
{
    if (!begun_)
    {
        begun_ = true;
        next_ = sequence;
    }
}

void StreamAssembly::Add(uint32_t sequence, const uint8_t *bytes, size_t length, const Sink &sink)
{
    Begin(sequence);

    int64_t position = Unwrap(sequence);

    if (position < next_)
    {
        // The segment was sent again, or is a keep-alive probe.
        const size_t known = std::min(static_cast<size_t>(next_ - position), length);

        position += static_cast<int64_t>(known);
        bytes += known;
        length -= known;
    }
    if (length == 0)
    {
        return;
    }
    if (position > next_)
    {
        Store(position, bytes, length);
        while (waiting_.size() > kMostSegments || waiting_bytes_ > kMostBytes)
        {
            SkipTo(waiting_.begin()->first);
            GiveStored(sink);
        }
        return;
    }
    sink(bytes, length);
    next_ += static_cast<int64_t>(length);
    GiveStored(sink);
}

void StreamAssembly::SetEnd(uint32_t sequence)
{
    Begin(sequence);
    has_end_ = true;
    end_ = Unwrap(sequence);
}

void StreamAssembly::Acknowledge(uint32_t sequence, const Sink &sink)
{
    if (!begun_)
    {
        return;
    }

    int64_t position = Unwrap(sequence);

    if (has_end_)
    {
        position = std::min(position, end_); // the FIN's sequence number is no byte of the stream
    }
    while (next_ < position)
    {
        const bool waits = !waiting_.empty() && waiting_.begin()->first < position;

        SkipTo(waits ? waiting_.begin()->first : position);
        GiveStored(sink);
    }
}

void StreamAssembly::Finish(const Sink &sink)
{
    while (!waiting_.empty())
    {
        SkipTo(waiting_.begin()->first);
        GiveStored(sink);
    }
}

int64_t StreamAssembly::Unwrap(uint32_t sequence) const
{
    return next_ + static_cast<int32_t>(sequence - static_cast<uint32_t>(next_));
}

void StreamAssembly::Store(int64_t position, const uint8_t *bytes, size_t length)
{
    std::vector<uint8_t> &stored = waiting_[position];

    if (stored.size() < length)
    {
        waiting_bytes_ += length - stored.size();
        stored.assign(bytes, bytes + length);
    }
}

// Gives the waiting bytes that are next in order now.
void StreamAssembly::GiveStored(const Sink &sink)
{
    while (!waiting_.empty() && waiting_.begin()->first <= next_)
    {
        const int64_t position = waiting_.begin()->first;
        const std::vector<uint8_t> stored = std::move(waiting_.begin()->second);
        const auto known = static_cast<size_t>(next_ - position);

        waiting_.erase(waiting_.begin());
        waiting_bytes_ -= stored.size();
        if (known < stored.size())
        {
            sink(stored.data() + known, stored.size() - known);
            next_ += static_cast<int64_t>(stored.size() - known);
        }
    }
}

void StreamAssembly::SkipTo(int64_t position)
{
    if (position > next_)
    {
        ++gaps_;
        gap_bytes_ += static_cast<uint64_t>(position - next_);
        next_ = position;
    }
}

} // namespace sim::sources
