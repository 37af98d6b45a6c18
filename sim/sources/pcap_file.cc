#include "sources/pcap_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace sim::sources {

namespace {

constexpr uint32_t kMagicMicroseconds = 0xA1B2C3D4;
constexpr uint32_t kMagicNanoseconds = 0xA1B23C4D;
constexpr uint32_t kSectionHeaderBlock = 0x0A0D0D0A; // the same in both byte orders
constexpr uint32_t kByteOrderMagic = 0x1A2B3C4D;
constexpr uint32_t kInterfaceBlock = 1;
constexpr uint32_t kOldPacketBlock = 2;
constexpr uint32_t kSimplePacketBlock = 3;
constexpr uint32_t kEnhancedPacketBlock = 6;
constexpr uint16_t kOptionTimeResolution = 9;
constexpr uint16_t kOptionTimeOffset = 14;

constexpr size_t kClassicHeaderLength = 24;
constexpr size_t kClassicRecordHeaderLength = 16;
constexpr size_t kBlockOverhead = 12; // type, length, length again
constexpr uint32_t kMaxRecordLength = 16u << 20; // more than any capture tool writes
constexpr uint64_t kNanosecondsPerSecond = 1000000000;

constexpr char kRepairAdvice[] = "Capture again, or save it anew with Wireshark (File, Save As).";

uint64_t ToNanoseconds(uint64_t units, uint64_t units_per_second)
{
    const uint64_t seconds = units / units_per_second;
    const uint64_t rest = units % units_per_second;
    if (units_per_second > kNanosecondsPerSecond)
    {
        return seconds * kNanosecondsPerSecond + rest / (units_per_second / kNanosecondsPerSecond);
    }
    return seconds * kNanosecondsPerSecond + rest * kNanosecondsPerSecond / units_per_second;
}

// if_tsresol: a power of ten, or of two when the highest bit is set. 0: one that cannot be counted in 64 bits.
uint64_t UnitsPerSecond(uint8_t resolution)
{
    const uint8_t exponent = resolution & 0x7F;
    if ((resolution & 0x80) != 0)
    {
        return exponent < 32 ? uint64_t{1} << exponent : 0;
    }
    uint64_t units = 1;
    for (uint8_t power = 0; power < exponent; ++power)
    {
        if (power == 18)
        {
            return 0;
        }
        units *= 10;
    }
    return units;
}

std::string Message(const std::string& path, uint64_t offset, const std::string& problem, const std::string& advice)
{
    return path + ": " + problem + " (at byte " + std::to_string(offset) + "). " + advice;
}

} // namespace

PcapError::PcapError(const std::string& path, uint64_t offset, const std::string& problem, const std::string& advice)
    : std::runtime_error(Message(path, offset, problem, advice)), offset_(offset)
{
}

PcapFile::PcapFile(const std::string& path) : path_(path)
{
    file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file_ < 0)
    {
        Fail(0, std::string("cannot be opened: ") + std::strerror(errno), "Check the path and its permissions.");
    }
    struct stat status = {};
    if (fstat(file_, &status) != 0 || !S_ISREG(status.st_mode))
    {
        close(file_);
        Fail(0, "is not a file", "Give the path of a pcap or pcapng file.");
    }
    size_ = static_cast<uint64_t>(status.st_size);
    try
    {
        ReadHeader();
    }
    catch (...)
    {
        close(file_);
        throw;
    }
}

PcapFile::~PcapFile()
{
    close(file_);
}

void PcapFile::Rewind()
{
    if (lseek(file_, 0, SEEK_SET) != 0)
    {
        Fail(0, std::string("cannot be read again: ") + std::strerror(errno), "Give a file, not a pipe.");
    }
    position_ = 0;
    truncated_.clear();
    interfaces_.clear();
    ReadHeader();
}

bool PcapFile::Next(Frame* frame)
{
    if (!truncated_.empty())
    {
        return false;
    }
    return next_generation_ ? NextBlock(frame) : NextClassic(frame);
}

void PcapFile::ReadHeader()
{
    static constexpr char kAdvice[] = "Give a capture in pcap or pcapng format, as tcpdump and Wireshark write it.";
    uint8_t header[kClassicHeaderLength];
    if (size_ == 0)
    {
        Fail(0, "is empty", kAdvice);
    }
    if (!Read(header, 4))
    {
        Fail(0, "is too short to be a capture", kAdvice);
    }
    big_endian_ = false;
    next_generation_ = U32(header) == kSectionHeaderBlock;
    if (next_generation_)
    {
        ReadSectionHeader(0);
        return;
    }
    uint32_t magic = U32(header);
    if (magic != kMagicMicroseconds && magic != kMagicNanoseconds)
    {
        big_endian_ = true;
        magic = U32(header);
    }
    if (magic != kMagicMicroseconds && magic != kMagicNanoseconds)
    {
        Fail(0, "is not a packet capture", kAdvice);
    }
    if (!Read(header + 4, kClassicHeaderLength - 4))
    {
        Fail(0, "ends inside its header", kRepairAdvice);
    }
    Interface interface;
    interface.link_type = static_cast<uint16_t>(U32(header + 20) & 0xFFFF); // the rest tells about frame check sequences
    interface.snap_length = U32(header + 16);
    interface.units_per_second = magic == kMagicNanoseconds ? kNanosecondsPerSecond : 1000000;
    interfaces_.assign(1, interface);
}

bool PcapFile::NextClassic(Frame* frame)
{
    const uint64_t offset = position_;
    uint8_t header[kClassicRecordHeaderLength];
    if (offset == size_)
    {
        return false;
    }
    if (!Read(header, sizeof header))
    {
        SetTruncated(offset);
        return false;
    }
    const uint32_t captured = U32(header + 8);
    if (captured > kMaxRecordLength)
    {
        Fail(offset, "has a record of " + std::to_string(captured) + " bytes, which no capture has", kRepairAdvice);
    }
    record_.resize(captured);
    if (!Read(record_.data(), captured))
    {
        SetTruncated(offset);
        return false;
    }
    const uint64_t units = interfaces_[0].units_per_second;
    *frame = Frame();
    frame->time_ns = U32(header) * kNanosecondsPerSecond + U32(header + 4) * (kNanosecondsPerSecond / units);
    frame->link_type = interfaces_[0].link_type;
    frame->data = record_.data();
    frame->captured_length = captured;
    frame->original_length = U32(header + 12);
    frame->offset = offset;
    return true;
}

// The block's type was read already. A section may have another byte order than the one before it.
void PcapFile::ReadSectionHeader(uint64_t offset)
{
    uint8_t header[8];
    if (!Read(header, sizeof header))
    {
        Fail(offset, "ends inside a section header", kRepairAdvice);
    }
    big_endian_ = false;
    if (U32(header + 4) != kByteOrderMagic)
    {
        big_endian_ = true;
    }
    if (U32(header + 4) != kByteOrderMagic)
    {
        Fail(offset, "has a section header without the byte-order magic", kRepairAdvice);
    }
    const uint32_t length = U32(header);
    if (length < 28 || length % 4 != 0 || length > kMaxRecordLength)
    {
        Fail(offset, "has a section header of " + std::to_string(length) + " bytes", kRepairAdvice);
    }
    record_.resize(length - kBlockOverhead);
    if (!Read(record_.data(), record_.size()))
    {
        Fail(offset, "ends inside a section header", kRepairAdvice);
    }
    interfaces_.clear();
}

bool PcapFile::NextBlock(Frame* frame)
{
    for (;;)
    {
        const uint64_t offset = position_;
        uint8_t header[8];
        if (offset == size_)
        {
            return false;
        }
        if (!Read(header, 4))
        {
            SetTruncated(offset);
            return false;
        }
        const uint32_t type = U32(header);
        if (type == kSectionHeaderBlock)
        {
            ReadSectionHeader(offset);
            continue;
        }
        if (!Read(header + 4, 4))
        {
            SetTruncated(offset);
            return false;
        }
        const uint32_t length = U32(header + 4);
        if (length < kBlockOverhead || length % 4 != 0 || length > kMaxRecordLength)
        {
            Fail(offset, "has a block of " + std::to_string(length) + " bytes", kRepairAdvice);
        }
        record_.resize(length - 8);
        if (!Read(record_.data(), record_.size()))
        {
            SetTruncated(offset);
            return false;
        }
        if (U32(record_.data() + record_.size() - 4) != length)
        {
            Fail(offset, "has a block whose two lengths differ", kRepairAdvice);
        }
        record_.resize(record_.size() - 4);
        if (type == kInterfaceBlock)
        {
            ReadInterface(offset, record_);
        }
        else if (type == kEnhancedPacketBlock)
        {
            return ReadEnhancedPacket(offset, frame);
        }
        else if (type == kSimplePacketBlock)
        {
            return ReadSimplePacket(offset, frame);
        }
        else if (type == kOldPacketBlock)
        {
            return ReadOldPacket(offset, frame);
        }
    }
}

void PcapFile::ReadInterface(uint64_t offset, const std::vector<uint8_t>& body)
{
    if (body.size() < 8)
    {
        Fail(offset, "has an interface description that is too short", kRepairAdvice);
    }
    Interface interface;
    interface.link_type = U16(body.data());
    interface.snap_length = U32(body.data() + 4);
    for (size_t at = 8; at + 4 <= body.size();)
    {
        const uint16_t code = U16(body.data() + at);
        const uint16_t length = U16(body.data() + at + 2);
        at += 4;
        if (code == 0 || length > body.size() - at)
        {
            break;
        }
        if (code == kOptionTimeResolution && length >= 1)
        {
            interface.units_per_second = UnitsPerSecond(body[at]);
        }
        else if (code == kOptionTimeOffset && length >= 8)
        {
            interface.offset_seconds = static_cast<int64_t>(U64(body.data() + at));
        }
        at += (length + 3u) & ~3u;
    }
    if (interface.units_per_second == 0)
    {
        Fail(offset, "has an interface with a time resolution that is too fine", kRepairAdvice);
    }
    interfaces_.push_back(interface);
}

bool PcapFile::ReadEnhancedPacket(uint64_t offset, Frame* frame)
{
    if (record_.size() < 20)
    {
        Fail(offset, "has a packet block that is too short", kRepairAdvice);
    }
    *frame = Frame();
    frame->interface_id = U32(record_.data());
    frame->captured_length = U32(record_.data() + 12);
    frame->original_length = U32(record_.data() + 16);
    if (frame->interface_id >= interfaces_.size())
    {
        Fail(offset, "has a packet of an interface that it does not describe", kRepairAdvice);
    }
    if (frame->captured_length > record_.size() - 20)
    {
        Fail(offset, "has a packet that is longer than its block", kRepairAdvice);
    }
    const Interface& interface = interfaces_[frame->interface_id];
    const uint64_t units = uint64_t{U32(record_.data() + 4)} << 32 | U32(record_.data() + 8);
    frame->time_ns = ToNanoseconds(units, interface.units_per_second) +
                     static_cast<uint64_t>(interface.offset_seconds) * kNanosecondsPerSecond;
    frame->link_type = interface.link_type;
    frame->data = record_.data() + 20;
    frame->offset = offset;
    return true;
}

bool PcapFile::ReadSimplePacket(uint64_t offset, Frame* frame)
{
    if (record_.size() < 4 || interfaces_.empty())
    {
        Fail(offset, "has a simple packet block without a length or an interface", kRepairAdvice);
    }
    *frame = Frame();
    frame->original_length = U32(record_.data());
    frame->captured_length = frame->original_length;
    const uint32_t snap_length = interfaces_[0].snap_length;
    if (snap_length != 0 && frame->captured_length > snap_length)
    {
        frame->captured_length = snap_length;
    }
    if (frame->captured_length > record_.size() - 4)
    {
        Fail(offset, "has a packet that is longer than its block", kRepairAdvice);
    }
    frame->link_type = interfaces_[0].link_type;
    frame->data = record_.data() + 4;
    frame->offset = offset;
    return true;
}

// The obsolete packet block: as the enhanced one, with 16 bits of interface and 16 bits of drop count.
bool PcapFile::ReadOldPacket(uint64_t offset, Frame* frame)
{
    if (record_.size() < 20)
    {
        Fail(offset, "has a packet block that is too short", kRepairAdvice);
    }
    const uint32_t interface_id = U16(record_.data());
    const uint32_t wide = interface_id;
    if (big_endian_)
    {
        record_[0] = record_[1] = 0;
        record_[2] = static_cast<uint8_t>(wide >> 8);
        record_[3] = static_cast<uint8_t>(wide);
    }
    else
    {
        record_[2] = record_[3] = 0;
    }
    return ReadEnhancedPacket(offset, frame);
}

bool PcapFile::Read(void* to, size_t length)
{
    size_t done = 0;
    while (done < length)
    {
        const ssize_t got = read(file_, static_cast<uint8_t*>(to) + done, length - done);
        if (got < 0 && errno == EINTR)
        {
            continue;
        }
        if (got < 0)
        {
            Fail(position_, std::string("cannot be read: ") + std::strerror(errno), "Check the disk and try again.");
        }
        if (got == 0)
        {
            return false;
        }
        done += static_cast<size_t>(got);
        position_ += static_cast<uint64_t>(got);
    }
    return true;
}

void PcapFile::SetTruncated(uint64_t offset)
{
    truncated_ = Message(path_, offset, "breaks off inside a record",
                         "What was before it was read. Capture again if the rest is needed.");
}

void PcapFile::Fail(uint64_t offset, const std::string& problem, const std::string& advice) const
{
    throw PcapError(path_, offset, problem, advice);
}

uint16_t PcapFile::U16(const uint8_t* bytes) const
{
    return big_endian_ ? static_cast<uint16_t>(bytes[0] << 8 | bytes[1]) : static_cast<uint16_t>(bytes[1] << 8 | bytes[0]);
}

uint32_t PcapFile::U32(const uint8_t* bytes) const
{
    return big_endian_ ? uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3]
                       : uint32_t{bytes[3]} << 24 | uint32_t{bytes[2]} << 16 | uint32_t{bytes[1]} << 8 | bytes[0];
}

uint64_t PcapFile::U64(const uint8_t* bytes) const
{
    return big_endian_ ? uint64_t{U32(bytes)} << 32 | U32(bytes + 4) : uint64_t{U32(bytes + 4)} << 32 | U32(bytes);
}

} // namespace sim::sources
