#include "sources/pcap_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "byte_order.h"
#include "sources/pcapng.h"

namespace sim::sources
{
namespace
{

constexpr uint32_t kMicroseconds = 0xA1B2C3D4;
constexpr uint32_t kNanoseconds = 0xA1B23C4D;

constexpr size_t kClassicHeaderSize = 24;
constexpr size_t kRecordHeaderSize = 16;
constexpr size_t kBlockHeaderSize = 8;
constexpr size_t kBlockTrailerSize = 4;
constexpr size_t kSmallestBlock = kBlockHeaderSize + kBlockTrailerSize;
constexpr size_t kSmallestSection = 28;
constexpr size_t kEnhancedHeaderSize = 20;
constexpr size_t kSimpleHeaderSize = 4;
constexpr size_t kOldHeaderSize = 20;

constexpr uint32_t kLongestFrame = 16 * 1024 * 1024;            // no link has longer frames: a longer one is damage
constexpr uint32_t kLongestBlock = kLongestFrame + 1024 * 1024; // longest block that is read as a whole

constexpr uint64_t kShortSkip = 4096;
constexpr size_t kMostInterfaces = 65536; // the older packet block can name so many

constexpr uint64_t kNanosecondsPerSecond = 1000000000;

const char *const kMakeCapture = "give a pcap or pcapng file, or convert it with 'editcap -F pcap'";
const char *const kDamaged = "the file is damaged from there on: copy it again, or cut it with 'editcap'";

uint64_t PowerOfTen(unsigned exponent)
{
    uint64_t power = 1;

    for (; exponent != 0; --exponent)
    {
        power *= 10;
    }
    return power;
}

uint64_t DecimalNanoseconds(uint64_t timestamp, unsigned exponent)
{
    constexpr unsigned kNanosecondExponent = 9;
    constexpr unsigned kMostDigits = 19;

    if (exponent <= kNanosecondExponent)
    {
        return timestamp * PowerOfTen(kNanosecondExponent - exponent);
    }
    return exponent - kNanosecondExponent > kMostDigits ? 0 : timestamp / PowerOfTen(exponent - kNanosecondExponent);
}

uint64_t BinaryNanoseconds(uint64_t timestamp, unsigned exponent)
{
    constexpr unsigned kExactBits = 32;

    if (exponent >= 64)
    {
        return 0;
    }

    const uint64_t seconds = timestamp >> exponent;
    uint64_t fraction = timestamp - (seconds << exponent);

    if (exponent > kExactBits)
    {
        fraction >>= exponent - kExactBits;
        exponent = kExactBits;
    }
    return seconds * kNanosecondsPerSecond + (fraction * kNanosecondsPerSecond >> exponent);
}

std::string Describe(const std::string &path, uint64_t offset, const std::string &problem, const std::string &advice)
{
    return path + ": at offset " + std::to_string(offset) + ": " + problem + "; " + advice;
}

} // namespace

PcapError::PcapError(const std::string &path, uint64_t offset, const std::string &problem, const std::string &advice)
    : std::runtime_error(Describe(path, offset, problem, advice)), offset_(offset)
{
}

PcapFile::PcapFile(const std::string &path, const std::atomic<bool> *stopped) : path_(path), stopped_(stopped)
{
    std::error_code error;

    // The open of a pipe would wait for its other end.
    if (std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error))
    {
        Fail(0, "this is not a regular file", "give a file on a disk, not a folder, pipe or device");
    }
    file_.open(path, std::ios::binary);
    if (!file_)
    {
        Fail(0, std::string("the file cannot be opened (") + std::strerror(errno) + ")",
             "check that it exists and may be read");
    }
    file_.seekg(0, std::ios::end);

    const std::streamoff size = file_.tellg();

    if (size < 0)
    {
        Fail(0, "the size of the file cannot be determined", "copy it to another disk");
    }
    size_ = static_cast<uint64_t>(size);
    Rewind();
}

PcapFile::~PcapFile() = default;

void PcapFile::Rewind()
{
    file_.clear();
    file_.seekg(0);
    position_ = 0;
    truncated_.clear();
    interfaces_.clear();
    ReadFileHeader();
}

void PcapFile::ReadFileHeader()
{
    uint8_t magic[4];

    if (Read(magic, sizeof(magic)) != sizeof(magic))
    {
        Fail(0, size_ == 0 ? "the file is empty" : "the file is too short for a capture", kMakeCapture);
    }
    blocks_ = LoadBig32(magic) == pcapng::kSectionHeader;
    if (blocks_)
    {
        if (!ReadSectionHeader(0, magic))
        {
            Fail(0, "the file ends inside its section header", kMakeCapture);
        }
        return;
    }
    ReadClassicHeader(magic);
}

void PcapFile::ReadClassicHeader(const uint8_t *magic)
{
    const uint32_t big = LoadBig32(magic);
    const uint32_t little = LoadLittle32(magic);
    uint8_t header[kClassicHeaderSize];
    Interface interface;

    big_endian_ = big == kMicroseconds || big == kNanoseconds;
    if (!big_endian_ && little != kMicroseconds && little != kNanoseconds)
    {
        if (magic[0] == 0x1F && magic[1] == 0x8B)
        {
            Fail(0, "the file is compressed", "decompress it first, with 'gunzip'");
        }
        Fail(0, "the file does not begin as a capture", kMakeCapture);
    }
    std::copy_n(magic, 4, header);
    if (Read(header + 4, sizeof(header) - 4) != sizeof(header) - 4)
    {
        Fail(0, "the file ends inside its header", kMakeCapture);
    }
    interface.resolution = (big_endian_ ? big : little) == kNanoseconds ? 9 : 6;
    interface.snap_length = U32(header + 16);
    interface.link_type = static_cast<uint16_t>(U32(header + 20)); // the upper half describes frame check sequences
    interfaces_.push_back(interface);
}

bool PcapFile::Next(Frame *frame)
{
    if (!truncated_.empty())
    {
        return false;
    }
    if (!blocks_)
    {
        return NextRecord(frame);
    }

    Block block;

    while (NextBlock(&block))
    {
        switch (block.type)
        {
        case pcapng::kEnhancedPacket:
            ReadEnhancedPacket(block, frame);
            return true;
        case pcapng::kSimplePacket:
            ReadSimplePacket(block, frame);
            return true;
        case pcapng::kOldPacket:
            ReadOldPacket(block, frame);
            return true;
        case pcapng::kInterfaceDescription:
            ReadInterface(block);
            break;
        default:
            break;
        }
    }
    return false;
}

bool PcapFile::NextRecord(Frame *frame)
{
    const uint64_t offset = position_;
    uint8_t header[kRecordHeaderSize];

    if (left() == 0 || stopped())
    {
        return false;
    }
    if (Read(header, sizeof(header)) != sizeof(header))
    {
        SetTruncated(offset);
        return false;
    }

    const uint32_t captured = U32(header + 8);

    if (captured > kLongestFrame)
    {
        Fail(offset, "a frame of " + std::to_string(captured) + " bytes is not possible", kDamaged);
    }
    if (captured > left())
    {
        SetTruncated(offset);
        return false;
    }
    record_.resize(captured);
    if (Read(record_.data(), captured) != captured)
    {
        SetTruncated(offset);
        return false;
    }
    frame->time_ns = static_cast<uint64_t>(U32(header)) * kNanosecondsPerSecond +
                     DecimalNanoseconds(U32(header + 4), interfaces_[0].resolution);
    frame->interface_id = 0;
    frame->link_type = interfaces_[0].link_type;
    frame->data = record_.data();
    frame->captured_length = captured;
    frame->original_length = std::max(captured, U32(header + 12));
    frame->offset = offset;
    return true;
}

// Reads the next block. Returns false at the end.
// record_ gets the bytes between header and trailer, if the block is of a type that matters.
bool PcapFile::NextBlock(Block *block)
{
    for (;;)
    {
        uint8_t header[kBlockHeaderSize];
        uint8_t trailer[kBlockTrailerSize];

        block->offset = position_;
        if (left() == 0 || stopped())
        {
            return false;
        }
        if (left() < sizeof(header) || Read(header, 4) != 4)
        {
            SetTruncated(block->offset);
            return false;
        }
        if (LoadBig32(header) == pcapng::kSectionHeader)
        {
            if (!ReadSectionHeader(block->offset, header))
            {
                SetTruncated(block->offset);
                return false;
            }
            continue;
        }
        if (Read(header + 4, 4) != 4)
        {
            SetTruncated(block->offset);
            return false;
        }
        block->type = U32(header);

        const uint32_t length = U32(header + 4);
        const bool read = block->type == pcapng::kInterfaceDescription || block->type == pcapng::kOldPacket ||
                          block->type == pcapng::kSimplePacket || block->type == pcapng::kEnhancedPacket;

        if (length < kSmallestBlock || length % 4 != 0 || (read && length > kLongestBlock))
        {
            Fail(block->offset, "a block of " + std::to_string(length) + " bytes is not possible", kDamaged);
        }

        const size_t body = length - kSmallestBlock;

        if (left() < body + kBlockTrailerSize)
        {
            SetTruncated(block->offset);
            return false;
        }
        record_.resize(read ? body : 0);
        if (read ? Read(record_.data(), body) != body : !Skip(body))
        {
            SetTruncated(block->offset);
            return false;
        }
        if (Read(trailer, sizeof(trailer)) != sizeof(trailer))
        {
            SetTruncated(block->offset);
            return false;
        }
        if (U32(trailer) != length)
        {
            Fail(block->offset, "a block does not end with its own length", kDamaged);
        }
        if (read)
        {
            return true;
        }
    }
}

// `start` holds the first four bytes, which have been read. Returns false if the file ends inside the section header.
bool PcapFile::ReadSectionHeader(uint64_t offset, const uint8_t *start)
{
    uint8_t header[kSmallestSection - kBlockTrailerSize];
    uint8_t trailer[kBlockTrailerSize];

    std::copy_n(start, 4, header);
    if (Read(header + 4, sizeof(header) - 4) != sizeof(header) - 4)
    {
        return false;
    }
    if (LoadBig32(header + 8) != pcapng::kByteOrder && LoadLittle32(header + 8) != pcapng::kByteOrder)
    {
        Fail(offset, "a section header has no valid byte order mark", kDamaged);
    }
    big_endian_ = LoadBig32(header + 8) == pcapng::kByteOrder;

    const uint32_t length = U32(header + 4);

    if (length < kSmallestSection || length % 4 != 0)
    {
        Fail(offset, "a section header of " + std::to_string(length) + " bytes is not possible", kDamaged);
    }
    if (U16(header + 12) != 1)
    {
        Fail(offset, "the section has version " + std::to_string(U16(header + 12)) + " of the format",
             "convert it with 'editcap -F pcap'");
    }
    if (!Skip(length - kSmallestSection) || Read(trailer, sizeof(trailer)) != sizeof(trailer))
    {
        return false;
    }
    if (U32(trailer) != length)
    {
        Fail(offset, "a section header does not end with its own length", kDamaged);
    }
    interfaces_.clear();
    return true;
}

void PcapFile::ReadInterface(const Block &block)
{
    constexpr size_t kHeaderSize = 8;
    Interface interface;

    if (record_.size() < kHeaderSize)
    {
        Fail(block.offset, "an interface block is too short", kDamaged);
    }
    interface.link_type = U16(record_.data());
    interface.snap_length = U32(record_.data() + 4);
    ReadOptions(block, kHeaderSize, &interface);
    if (interfaces_.size() == kMostInterfaces)
    {
        Fail(block.offset, "the section describes more than " + std::to_string(kMostInterfaces) + " interfaces",
             kDamaged);
    }
    interfaces_.push_back(interface);
}

void PcapFile::ReadOptions(const Block &block, size_t position, Interface *interface)
{
    constexpr size_t kOptionHeaderSize = 4;

    while (record_.size() - position >= kOptionHeaderSize)
    {
        const uint16_t code = U16(record_.data() + position);
        const uint16_t length = U16(record_.data() + position + 2);
        const size_t padded = (static_cast<size_t>(length) + 3) & ~static_cast<size_t>(3);

        position += kOptionHeaderSize;
        if (code == pcapng::kEndOfOptions)
        {
            return;
        }
        if (padded > record_.size() - position)
        {
            Fail(block.offset, "an option is longer than its interface block", kDamaged);
        }
        if (code == pcapng::kTimeResolution && length >= 1)
        {
            interface->binary_resolution = (record_[position] & 0x80) != 0;
            interface->resolution = record_[position] & 0x7F;
        }
        else if (code == pcapng::kTimeOffset && length >= 8)
        {
            interface->offset_seconds = static_cast<int64_t>(U64(record_.data() + position));
        }
        position += padded;
    }
}

void PcapFile::ReadEnhancedPacket(const Block &block, Frame *frame)
{
    if (record_.size() < kEnhancedHeaderSize)
    {
        Fail(block.offset, "a packet block is too short", kDamaged);
    }

    const uint8_t *header = record_.data();

    SetPacket(block, U32(header), static_cast<uint64_t>(U32(header + 4)) << 32 | U32(header + 8), kEnhancedHeaderSize,
              U32(header + 12), U32(header + 16), frame);
}

void PcapFile::ReadSimplePacket(const Block &block, Frame *frame)
{
    if (record_.size() < kSimpleHeaderSize)
    {
        Fail(block.offset, "a packet block is too short", kDamaged);
    }

    const uint32_t original = U32(record_.data());
    const auto there = static_cast<uint32_t>(record_.size() - kSimpleHeaderSize);
    const uint32_t snap = interfaces_.empty() ? 0 : interfaces_[0].snap_length;
    const uint32_t captured = std::min({original, there, snap == 0 ? original : snap});

    SetPacket(block, 0, 0, kSimpleHeaderSize, captured, original, frame);
    frame->time_ns = 0;
}

void PcapFile::ReadOldPacket(const Block &block, Frame *frame)
{
    if (record_.size() < kOldHeaderSize)
    {
        Fail(block.offset, "a packet block is too short", kDamaged);
    }

    const uint8_t *header = record_.data();

    SetPacket(block, U16(header), static_cast<uint64_t>(U32(header + 4)) << 32 | U32(header + 8), kOldHeaderSize,
              U32(header + 12), U32(header + 16), frame);
}

void PcapFile::SetPacket(const Block &block, uint32_t interface_id, uint64_t timestamp, size_t header,
                         uint32_t captured, uint32_t original, Frame *frame)
{
    if (interface_id >= interfaces_.size())
    {
        Fail(block.offset, "a packet is of interface " + std::to_string(interface_id) + ", which is not described",
             kDamaged);
    }
    if (captured > record_.size() - header)
    {
        Fail(block.offset, "a packet is longer than its block", kDamaged);
    }

    const Interface &interface = interfaces_[interface_id];
    const uint64_t time = interface.binary_resolution ? BinaryNanoseconds(timestamp, interface.resolution)
                                                      : DecimalNanoseconds(timestamp, interface.resolution);

    frame->time_ns = time + static_cast<uint64_t>(interface.offset_seconds) * kNanosecondsPerSecond;
    frame->interface_id = interface_id;
    frame->link_type = interface.link_type;
    frame->data = record_.data() + header;
    frame->captured_length = captured;
    frame->original_length = std::max(captured, original);
    frame->offset = block.offset;
}

size_t PcapFile::Read(void *to, size_t length)
{
    file_.read(static_cast<char *>(to), static_cast<std::streamsize>(length));

    const auto read = static_cast<size_t>(file_.gcount());

    position_ += read;
    return read;
}

bool PcapFile::Skip(uint64_t length)
{
    if (length > left())
    {
        position_ = size_;
        return false;
    }
    position_ += length;
    // A seek throws away what was read ahead, so a short way is read through.
    if (length <= kShortSkip)
    {
        file_.ignore(static_cast<std::streamsize>(length));
    }
    else
    {
        file_.seekg(static_cast<std::streamoff>(position_));
    }
    return static_cast<bool>(file_);
}

void PcapFile::SetTruncated(uint64_t offset)
{
    truncated_ = Describe(path_, offset, "the file ends inside this record",
                          "what was before it has been read; copy the file again if it should be complete");
    position_ = size_;
}

void PcapFile::Fail(uint64_t offset, const std::string &problem, const std::string &advice) const
{
    throw PcapError(path_, offset, problem, advice);
}

uint16_t PcapFile::U16(const uint8_t *bytes) const
{
    return big_endian_ ? LoadBig16(bytes) : LoadLittle16(bytes);
}

uint32_t PcapFile::U32(const uint8_t *bytes) const
{
    return big_endian_ ? LoadBig32(bytes) : LoadLittle32(bytes);
}

uint64_t PcapFile::U64(const uint8_t *bytes) const
{
    const uint64_t first = U32(bytes);
    const uint64_t second = U32(bytes + 4);

    return big_endian_ ? first << 32 | second : second << 32 | first;
}

} // namespace sim::sources
