// Reads packet captures: classic pcap (microseconds and nanoseconds, both byte orders) and pcapng. Every length in the
// file is checked against the file before it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace sim::sources {

// The message names the file, the offset, and what to do.
class PcapError : public std::runtime_error
{
public:
    PcapError(const std::string& path, uint64_t offset, const std::string& problem, const std::string& advice);

    uint64_t offset() const { return offset_; }

private:
    uint64_t offset_;
};

struct Frame
{
    uint64_t time_ns = 0; // since 1970; 0 where the block has none (pcapng simple packet blocks)
    uint32_t interface_id = 0;
    uint16_t link_type = 0; // LINKTYPE_ value
    const uint8_t* data = nullptr; // valid until the next call
    uint32_t captured_length = 0;
    uint32_t original_length = 0;
    uint64_t offset = 0; // of its record in the file
};

class PcapFile
{
public:
    // Throws PcapError where the file cannot be opened or does not begin as a capture.
    explicit PcapFile(const std::string& path);
    ~PcapFile();

    PcapFile(const PcapFile&) = delete;
    PcapFile& operator=(const PcapFile&) = delete;

    // False at the end. A file that ends inside a record ends there: truncated() then tells where. Throws PcapError on
    // a corrupt record.
    bool Next(Frame* frame);

    void Rewind();

    uint64_t size() const { return size_; }
    uint64_t position() const { return position_; } // bytes read so far

    // Empty, or a sentence that tells where the file breaks off and what to do.
    const std::string& truncated() const { return truncated_; }

private:
    struct Interface
    {
        uint16_t link_type = 0;
        uint32_t snap_length = 0;
        uint64_t units_per_second = 1000000;
        int64_t offset_seconds = 0;
    };

    bool NextClassic(Frame* frame);
    bool NextBlock(Frame* frame);
    void ReadHeader();
    void ReadSectionHeader(uint64_t offset);
    void ReadInterface(uint64_t offset, const std::vector<uint8_t>& body);
    bool ReadEnhancedPacket(uint64_t offset, Frame* frame);
    bool ReadSimplePacket(uint64_t offset, Frame* frame);
    bool ReadOldPacket(uint64_t offset, Frame* frame);

    bool Read(void* to, size_t length);
    void SetTruncated(uint64_t offset);
    [[noreturn]] void Fail(uint64_t offset, const std::string& problem, const std::string& advice) const;
    uint16_t U16(const uint8_t* bytes) const;
    uint32_t U32(const uint8_t* bytes) const;
    uint64_t U64(const uint8_t* bytes) const;

    std::string path_;
    std::string truncated_;
    int file_ = -1;
    uint64_t size_ = 0;
    uint64_t position_ = 0;
    bool next_generation_ = false;
    bool big_endian_ = false;
    std::vector<Interface> interfaces_;
    std::vector<uint8_t> record_;
};

} // namespace sim::sources
