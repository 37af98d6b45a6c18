// Fuzzes the capture readers: every file is read to its end, or refused with an error that names the position.
// The frames of the file are replayed.
#include "support/machine_test.h"

#include "sources/link_layer.h"
#include "sources/pcap_file.h"
#include "sources/replay.h"

#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

namespace
{

// A file in memory.
class CaptureFile
{
  public:
    CaptureFile(const uint8_t *data, size_t size) : descriptor_(memfd_create("capture", 0))
    {
        for (size_t at = 0; at < size;)
        {
            const ssize_t written = write(descriptor_, data + at, size - at);

            if (written <= 0)
            {
                std::abort();
            }
            at += static_cast<size_t>(written);
        }
    }

    ~CaptureFile() { close(descriptor_); }

    CaptureFile(const CaptureFile &) = delete;
    CaptureFile &operator=(const CaptureFile &) = delete;

    std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

  private:
    int descriptor_;
};

// Returns the number of frames that can be read.
size_t ReadFrames(const std::string &path)
{
    sim::sources::PcapFile file(path);
    sim::sources::Frame frame;
    size_t frames = 0;

    for (; file.Next(&frame); frames++)
    {
        const sim::sources::LinkFrame link =
            sim::sources::DecodeLink(frame.link_type, frame.data, frame.captured_length, frame.original_length);

        EXPECT_LE(file.position(), file.size());
        if (link.kind == sim::sources::FrameKind::kIp)
        {
            EXPECT_GE(link.packet, frame.data);
            EXPECT_LE(link.packet + link.captured_length, frame.data + frame.captured_length);
        }
    }
    return frames;
}

void Replay(const std::string &path, size_t frames)
{
    sim::Machine machine(kext_test::StandingClock());
    sim::Machine::Scope scope(machine);
    sim::sources::Replay replay(machine, {path, {}, 0, ""});

    replay.Run({});
    EXPECT_EQ(replay.summary().frames, frames);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const CaptureFile file(data, size);

    try
    {
        Replay(file.path(), ReadFrames(file.path()));
    }
    catch (const sim::sources::PcapError &error)
    {
        EXPECT_LE(error.offset(), size) << error.what();
    }
    return 0;
}
