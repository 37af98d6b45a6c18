// Cuts the byte stream that a client reads into records. A read may end anywhere within a record.
#pragma once

#include "protocol.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace kext_test
{

class RecordSplitter
{
  public:
    // Calls `take(header, record)` for each record that `bytes` completes; `record` begins with its header. Returns
    // false for a header whose length no record has: the stream is torn.
    template <typename Take> bool Add(const uint8_t *bytes, size_t length, const Take &take)
    {
        size_t at = 0;
        bool is_whole = true;

        partial_.insert(partial_.end(), bytes, bytes + length);
        while (partial_.size() - at >= sizeof(INFO_HEADER_WIRE))
        {
            INFO_HEADER_WIRE header;

            std::memcpy(&header, partial_.data() + at, sizeof(header));
            is_whole = header.Length <= PROTOCOL_MAX_RECORD_LENGTH;
            if (!is_whole || partial_.size() - at - sizeof(header) < header.Length)
            {
                break;
            }
            take(header, static_cast<const uint8_t *>(partial_.data() + at));
            at += sizeof(header) + header.Length;
        }
        partial_.erase(partial_.begin(), partial_.begin() + static_cast<ptrdiff_t>(at));
        return is_whole;
    }

    void Clear() { partial_.clear(); }

    // True where the stream ends with a whole record.
    bool empty() const { return partial_.empty(); }

  private:
    std::vector<uint8_t> partial_; // the record that is not complete yet
};

} // namespace kext_test
