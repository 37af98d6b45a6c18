// Reads packet captures: classic pcap (microseconds and nanoseconds, both byte orders) and pcapng.
// It checks every length in the file against the file's size before it uses the length.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace sim::sources
{

// The message names the file, the offset and the remedy.
class PcapError : public std::runtime_error
{
  public:
    PcapError(const std::string &path, uint64_t offset, const std::string &problem, const std::string &advice);

    uint64_t offset() const { return offset_; }

  private:
    uint64_t offset_;
};

struct Frame
{
    uint64_t time_ns = 0; // since 1970; 0 in a block without a time (pcapng simple packet blocks)
    uint32_t interface_id = 0;
    uint16_t link_type = 0;        // a LINKTYPE_ value
    const uint8_t *data = nullptr; // valid until the next call
    uint32_t captured_length = 0;
    uint32_t original_length = 0;
    uint64_t offset = 0; // of its record in the file
};

class PcapFile
{
  public:
    // Throws PcapError if the file cannot be opened or does not begin as a capture.
    // Reading ends once `stopped` is set. It is looked at before every record and every block.
    explicit PcapFile(const std::string &path, const std::atomic<bool> *stopped = nullptr);
    ~PcapFile();

    PcapFile(const PcapFile &) = delete;
    PcapFile &operator=(const PcapFile &) = delete;

    // Reads the next frame. Returns false at the end, or when it is stopped. Throws PcapError on a corrupt record.
    // A file that ends inside a record ends before it, and truncated() says where.
    bool Next(Frame *frame);

    void Rewind();

    uint64_t size() const { return size_; }
    uint64_t position() const { return position_; } // bytes read so far

    // Empty, or a sentence that names the place where the file breaks off and the remedy.
    const std::string &truncated() const { return truncated_; }

  private:
    struct Interface
    {
        uint16_t link_type = 0;
        uint32_t snap_length = 0; // 0: no limit
        bool binary_resolution = false;
        uint8_t resolution = 6; // the time unit is 10^-resolution or 2^-resolution seconds
        int64_t offset_seconds = 0;
    };

    struct Block
    {
        uint32_t type = 0;
        uint64_t offset = 0; // of the block in the file
    };

    void ReadFileHeader();
    void ReadClassicHeader(const uint8_t *magic);
    bool NextRecord(Frame *frame);
    bool NextBlock(Block *block);
    bool ReadSectionHeader(uint64_t offset, const uint8_t *start);
    void ReadInterface(const Block &block);
    void ReadOptions(const Block &block, size_t position, Interface *interface);
    void ReadEnhancedPacket(const Block &block, Frame *frame);
    void ReadSimplePacket(const Block &block, Frame *frame);
    void ReadOldPacket(const Block &block, Frame *frame);
    void SetPacket(const Block &block, uint32_t interface_id, uint64_t timestamp, size_t header, uint32_t captured,
                   uint32_t original, Frame *frame);

    size_t Read(void *to, size_t length);
    bool Skip(uint64_t length);
    bool stopped() const { return stopped_ != nullptr && stopped_->load(std::memory_order_relaxed); }
    uint64_t left() const { return size_ - position_; }
    void SetTruncated(uint64_t offset);
    [[noreturn]] void Fail(uint64_t offset, const std::string &problem, const std::string &advice) const;
    uint16_t U16(const uint8_t *bytes) const;
    uint32_t U32(const uint8_t *bytes) const;
    uint64_t U64(const uint8_t *bytes) const;

    const std::string path_;
    const std::atomic<bool> *const stopped_;
    std::string truncated_;
    std::ifstream file_;
    uint64_t size_ = 0;
    uint64_t position_ = 0;
    bool blocks_ = false; // pcapng
    bool big_endian_ = false;
    std::vector<Interface> interfaces_; // of the present section; a classic file has one
    std::vector<uint8_t> record_;
};

} // namespace sim::sources
