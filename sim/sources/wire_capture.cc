#include "sources/wire_capture.h"

#include "machine.h"
#include "nt/clock.h"
#include "sources/pcapng.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace sim::sources
{
namespace
{

constexpr uint16_t kMajorVersion = 1;
constexpr uint16_t kMinorVersion = 0;
constexpr uint64_t kUnknownLength = ~uint64_t{0}; // of a section that is still written
constexpr uint16_t kLinkTypeRaw = 101;
constexpr uint32_t kNoSnapLength = 0;

constexpr uint8_t kTenthsOfMicroseconds = 7; // the machine's time unit is 10^-7 seconds
constexpr uint32_t kInboundFlag = 1;
constexpr uint32_t kOutboundFlag = 2;

constexpr uint64_t kTicksFrom1601To1970 = 116'444'736'000'000'000;

constexpr size_t kBlockAlignment = 4;

struct Interface
{
    std::string_view name;
    std::string_view description;
};

// The interface of a packet. Its number is its place in the file.
enum InterfaceId : uint32_t
{
    kNetwork,
    kLoopback,
    kDelivered
};

constexpr Interface kInterfaces[] = {
    {"network", "sent to other computers"},
    {"loopback", "sent to this computer itself"},
    {"delivered", "given to the programs of this computer"},
};

class Block
{
  public:
    explicit Block(uint32_t type)
    {
        Add(type);
        Add(uint32_t{0}); // Finish sets the length
    }

    template <typename Number> void Add(Number number) { Append(&number, sizeof(number)); }

    void AddPadded(const void *bytes, size_t length)
    {
        Append(bytes, length);
        bytes_.resize((bytes_.size() + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment);
    }

    void AddOption(uint16_t code, const void *bytes, size_t length)
    {
        Add(code);
        Add(static_cast<uint16_t>(length));
        AddPadded(bytes, length);
    }

    void EndOptions() { AddOption(pcapng::kEndOfOptions, nullptr, 0); }

    // Returns the complete block.
    const std::vector<uint8_t> &Finish()
    {
        const auto length = static_cast<uint32_t>(bytes_.size() + sizeof(uint32_t));

        Add(length);
        std::memcpy(bytes_.data() + sizeof(uint32_t), &length, sizeof(length));
        return bytes_;
    }

  private:
    void Append(const void *bytes, size_t length)
    {
        const auto *from = static_cast<const uint8_t *>(bytes);

        bytes_.insert(bytes_.end(), from, from + length);
    }

    std::vector<uint8_t> bytes_; // in this computer's byte order, which the section header declares
};

} // namespace

class WireCapture::File
{
  public:
    File(const std::string &path, const nt::Clock &clock)
        : path_(path), clock_(clock), file_(path, std::ios::binary | std::ios::trunc)
    {
        if (!file_)
        {
            Fail(errno);
        }
        WriteHeader();
    }

    void Add(net::Direction direction, const net::Packet &packet)
    {
        const bool outbound = direction == net::Direction::kOutbound;
        const std::lock_guard<std::mutex> lock(mutex_);
        const uint64_t time = clock_.PreciseSystemTime() - kTicksFrom1601To1970;
        const uint32_t flags = outbound ? kOutboundFlag : kInboundFlag;
        Block block(pcapng::kEnhancedPacket);

        block.Add<uint32_t>(!outbound ? kDelivered : packet.loopback ? kLoopback : kNetwork);
        block.Add(static_cast<uint32_t>(time >> 32));
        block.Add(static_cast<uint32_t>(time));
        block.Add(packet.length()); // as captured
        block.Add(packet.length()); // as sent
        block.AddPadded(packet.bytes(), packet.length());
        block.AddOption(pcapng::kPacketFlags, &flags, sizeof(flags));
        block.EndOptions();
        Write(&block);
    }

    void Close()
    {
        const std::lock_guard<std::mutex> lock(mutex_);

        file_.close();
        NoteError();
        if (error_ != 0)
        {
            Fail(error_);
        }
    }

  private:
    void WriteHeader()
    {
        Block section(pcapng::kSectionHeader);

        section.Add(pcapng::kByteOrder);
        section.Add(kMajorVersion);
        section.Add(kMinorVersion);
        section.Add(kUnknownLength);
        Write(&section);
        for (const Interface &interface : kInterfaces)
        {
            Block block(pcapng::kInterfaceDescription);

            block.Add(kLinkTypeRaw);
            block.Add(uint16_t{0}); // reserved
            block.Add(kNoSnapLength);
            block.AddOption(pcapng::kInterfaceName, interface.name.data(), interface.name.size());
            block.AddOption(pcapng::kInterfaceDescriptionText, interface.description.data(),
                            interface.description.size());
            block.AddOption(pcapng::kTimeResolution, &kTenthsOfMicroseconds, sizeof(kTenthsOfMicroseconds));
            block.EndOptions();
            Write(&block);
        }
    }

    void Write(Block *block)
    {
        const std::vector<uint8_t> &bytes = block->Finish();

        file_.write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        NoteError();
    }

    // Keeps the first error, which is the cause of later ones.
    void NoteError()
    {
        if (!file_ && error_ == 0)
        {
            error_ = errno;
        }
    }

    [[noreturn]] void Fail(int error) const
    {
        throw std::runtime_error(path_ + ": the packets cannot be written there (" + std::strerror(error) +
                                 "). Name a file in a folder that exists, may be written to and has room.");
    }

    const std::string path_;
    const nt::Clock &clock_;
    std::mutex mutex_;
    std::ofstream file_;
    int error_ = 0;
};

WireCapture::WireCapture(net::Core &core, const std::string &path)
    : core_(core), file_(std::make_shared<File>(path, core.machine().clock()))
{
    core_.ObserveWire(this, [file = file_](net::Direction direction, const net::Packet &packet)
                      { file->Add(direction, packet); });
}

WireCapture::~WireCapture()
{
    core_.ObserveWire(this, nullptr);
}

void WireCapture::Finish()
{
    core_.ObserveWire(this, nullptr);
    file_->Close();
}

void WireCapture::RefusePlace(const std::string &written, const std::string &read)
{
    std::error_code missing; // the file to write may not exist yet

    // The open of a pipe would wait for its other end.
    if (std::filesystem::is_fifo(written, missing))
    {
        throw std::runtime_error(written + ": this is a pipe. Name a file on a disk to write to.");
    }
    if (std::filesystem::equivalent(written, read, missing))
    {
        throw std::runtime_error(written + ": this is the capture that is replayed. Name another file to write to.");
    }
}

} // namespace sim::sources
