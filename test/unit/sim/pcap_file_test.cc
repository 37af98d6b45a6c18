// Capture files: both formats, both byte orders, times, and damaged files.

#include "capture_writer.h"

#include <sys/stat.h>

#include <atomic>
#include <ctime>

#include <gmock/gmock.h>

#include "sources/pcap_file.h"

namespace sim::sources
{
namespace
{

using testing::AllOf;
using testing::HasSubstr;

constexpr uint64_t kSecond = 1000000000;

std::vector<Bytes> ReadAll(PcapFile *file)
{
    std::vector<Bytes> frames;
    Frame frame;

    while (file->Next(&frame))
    {
        frames.emplace_back(frame.data, frame.data + frame.captured_length);
    }
    return frames;
}

// Seconds of processor time.
double SecondsToRead(const Bytes &content)
{
    const TemporaryFile written(content);
    PcapFile file(written.path());
    const std::clock_t start = std::clock();

    ReadAll(&file);
    return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

std::string ErrorOf(const Bytes &content)
{
    const TemporaryFile file(content);

    try
    {
        PcapFile capture(file.path());
        ReadAll(&capture);
    }
    catch (const PcapError &error)
    {
        EXPECT_THAT(error.what(), HasSubstr(file.path()));
        EXPECT_THAT(error.what(), HasSubstr("at offset " + std::to_string(error.offset())));
        return error.what();
    }
    ADD_FAILURE() << "the file was read without an error";
    return "";
}

Bytes ClassicFile(uint32_t magic, bool big_endian)
{
    Writer out(big_endian);

    out.U32(magic).U16(2).U16(4).U32(0).U32(0).U32(65535).U32(101);
    out.U32(100).U32(7).U32(3).U32(60).Raw({1, 2, 3});
    out.U32(101).U32(8).U32(0).U32(0);
    return out.bytes();
}

class Blocks
{
  public:
    explicit Blocks(bool big_endian = false) : big_endian_(big_endian), out_(big_endian) {}

    Blocks &Section()
    {
        return Add(0x0A0D0D0A, Writer(big_endian_).U32(0x1A2B3C4D).U16(1).U16(0).U64(~uint64_t{0}).bytes());
    }
    Blocks &Interface(uint16_t link_type, const Bytes &options = {}, uint32_t snap = 0)
    {
        return Add(1, Writer(big_endian_).U16(link_type).U16(0).U32(snap).Raw(options).bytes());
    }
    Blocks &Enhanced(uint32_t interface_id, uint64_t time, const Bytes &data, uint32_t original = 0)
    {
        return Add(6, Writer(big_endian_)
                          .U32(interface_id)
                          .U32(static_cast<uint32_t>(time >> 32))
                          .U32(static_cast<uint32_t>(time))
                          .U32(static_cast<uint32_t>(data.size()))
                          .U32(original == 0 ? static_cast<uint32_t>(data.size()) : original)
                          .Padded(data)
                          .bytes());
    }
    Blocks &Simple(uint32_t original, const Bytes &data)
    {
        return Add(3, Writer(big_endian_).U32(original).Padded(data).bytes());
    }
    Blocks &Old(uint16_t interface_id, uint64_t time, const Bytes &data)
    {
        return Add(2, Writer(big_endian_)
                          .U16(interface_id)
                          .U16(0xFFFF)
                          .U32(static_cast<uint32_t>(time >> 32))
                          .U32(static_cast<uint32_t>(time))
                          .U32(static_cast<uint32_t>(data.size()))
                          .U32(static_cast<uint32_t>(data.size()))
                          .Padded(data)
                          .bytes());
    }
    Blocks &Add(uint32_t type, const Bytes &body)
    {
        const auto length = static_cast<uint32_t>(body.size() + 12);

        out_.U32(type).U32(length).Raw(body).U32(length);
        return *this;
    }
    Bytes Resolution(uint8_t value) const
    {
        return Writer(big_endian_).U16(9).U16(1).Padded({value}).U16(0).U16(0).bytes();
    }
    Writer &out() { return out_; }
    const Bytes &bytes() const { return out_.bytes(); }

  private:
    const bool big_endian_;
    Writer out_;
};

TEST(PcapFile, ReadsClassicFilesOfBothByteOrdersAndResolutions)
{
    for (const bool big_endian : {false, true})
    {
        for (const bool nanoseconds : {false, true})
        {
            const TemporaryFile file(ClassicFile(nanoseconds ? 0xA1B23C4D : 0xA1B2C3D4, big_endian));
            PcapFile capture(file.path());
            Frame frame;

            ASSERT_TRUE(capture.Next(&frame));
            EXPECT_EQ(frame.time_ns, 100 * kSecond + (nanoseconds ? 7 : 7000));
            EXPECT_EQ(frame.link_type, 101);
            EXPECT_EQ(frame.captured_length, 3u);
            EXPECT_EQ(frame.original_length, 60u);
            EXPECT_EQ(Bytes(frame.data, frame.data + 3), Bytes({1, 2, 3}));
            EXPECT_EQ(frame.offset, 24u);
            ASSERT_TRUE(capture.Next(&frame));
            EXPECT_EQ(frame.captured_length, 0u);
            EXPECT_FALSE(capture.Next(&frame));
            EXPECT_EQ(capture.position(), capture.size());
            EXPECT_TRUE(capture.truncated().empty());
        }
    }
}

TEST(PcapFile, ReadsBlocksOfEveryKindAndSkipsUnknownOnes)
{
    for (const bool big_endian : {false, true})
    {
        Blocks blocks(big_endian);

        blocks.Section().Interface(1).Add(0x0BAD, {1, 2, 3, 4});
        blocks.Enhanced(0, 5, {1}, 99).Simple(2, {2, 2}).Old(0, 6, {3, 3, 3}).Add(5, Bytes(12));

        const TemporaryFile file(blocks.bytes());
        PcapFile capture(file.path());

        EXPECT_EQ(ReadAll(&capture), (std::vector<Bytes>{{1}, {2, 2}, {3, 3, 3}}));
        EXPECT_TRUE(capture.truncated().empty());
    }
}

TEST(PcapFile, EveryInterfaceHasItsLinkTypeAndTimeUnit)
{
    Blocks blocks;

    blocks.Section();
    blocks.Interface(1).Interface(101, blocks.Resolution(9)).Interface(113, blocks.Resolution(0x80 | 10));
    blocks.Interface(228, Writer().U16(14).U16(8).U64(1000).U16(0).U16(0).bytes());
    blocks.Enhanced(0, 3000001, {1}).Enhanced(1, 3000000001, {1}).Enhanced(2, 3 * 1024 + 512, {1});
    blocks.Enhanced(3, 2000000, {1});

    const TemporaryFile file(blocks.bytes());
    PcapFile capture(file.path());
    Frame frame;

    ASSERT_TRUE(capture.Next(&frame));
    EXPECT_EQ(frame.time_ns, 3 * kSecond + 1000);
    EXPECT_EQ(frame.link_type, 1);
    ASSERT_TRUE(capture.Next(&frame));
    EXPECT_EQ(frame.time_ns, 3 * kSecond + 1);
    EXPECT_EQ(frame.link_type, 101);
    ASSERT_TRUE(capture.Next(&frame));
    EXPECT_EQ(frame.time_ns, 3 * kSecond + kSecond / 2);
    EXPECT_EQ(frame.interface_id, 2u);
    ASSERT_TRUE(capture.Next(&frame));
    EXPECT_EQ(frame.time_ns, 1002 * kSecond);
}

TEST(PcapFile, ASectionHasItsOwnInterfacesAndByteOrder)
{
    Blocks little(false);
    Blocks big(true);

    little.Section().Interface(1).Interface(1).Enhanced(1, 0, {1});
    big.Section().Interface(101).Enhanced(0, 0, {2});

    Bytes both = little.bytes();

    both.insert(both.end(), big.bytes().begin(), big.bytes().end());

    const TemporaryFile file(both);
    PcapFile capture(file.path());
    Frame frame;

    ASSERT_TRUE(capture.Next(&frame));
    ASSERT_TRUE(capture.Next(&frame));
    EXPECT_EQ(frame.link_type, 101);
    EXPECT_EQ(frame.data[0], 2);
}

TEST(PcapFile, ASimplePacketEndsAtTheSnapLength)
{
    Blocks blocks;

    blocks.Section().Interface(1, {}, 2).Simple(9, {1, 2, 0, 0});

    const TemporaryFile file(blocks.bytes());
    PcapFile capture(file.path());
    Frame frame;

    ASSERT_TRUE(capture.Next(&frame));
    EXPECT_EQ(frame.captured_length, 2u);
    EXPECT_EQ(frame.original_length, 9u);
}

TEST(PcapFile, CanBeReadAgain)
{
    const TemporaryFile file(ClassicFile(0xA1B2C3D4, false));
    PcapFile capture(file.path());
    const std::vector<Bytes> first = ReadAll(&capture);

    capture.Rewind();
    EXPECT_EQ(ReadAll(&capture), first);
}

TEST(PcapFile, ATruncatedFileGivesItsFramesAndSaysWhereItEnds)
{
    const Bytes whole = Capture().Add({1, 2, 3}).Add({4, 5, 6}).bytes();
    const size_t second = 24 + 16 + 3;

    for (size_t length = second + 1; length < whole.size(); ++length)
    {
        const TemporaryFile file(Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length)));
        PcapFile capture(file.path());

        EXPECT_EQ(ReadAll(&capture), (std::vector<Bytes>{{1, 2, 3}}));
        EXPECT_THAT(capture.truncated(), AllOf(HasSubstr(file.path()), HasSubstr("offset " + std::to_string(second)),
                                               HasSubstr("copy the file again")));
    }
}

TEST(PcapFile, ATruncatedBlockFileGivesItsFrames)
{
    Blocks blocks;

    blocks.Section().Interface(1).Enhanced(0, 0, {1});

    const size_t complete = blocks.bytes().size();

    blocks.Enhanced(0, 0, {2, 2}).Section();

    const Bytes whole = blocks.bytes();

    for (size_t length = complete + 1; length < whole.size(); ++length)
    {
        const TemporaryFile file(Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length)));
        PcapFile capture(file.path());
        const std::vector<Bytes> frames = ReadAll(&capture);

        ASSERT_FALSE(frames.empty());
        EXPECT_EQ(frames[0], Bytes{1});
        EXPECT_EQ(capture.truncated().empty(), length == complete + 36); // between two blocks
    }
}

TEST(PcapFile, TheErrorOfAFileThatIsNoCaptureNamesTheRemedy)
{
    EXPECT_THAT(ErrorOf({}), HasSubstr("empty"));
    EXPECT_THAT(ErrorOf({1, 2}), HasSubstr("too short"));
    EXPECT_THAT(ErrorOf(Bytes(100, 'x')), AllOf(HasSubstr("does not begin as a capture"), HasSubstr("editcap")));
    EXPECT_THAT(ErrorOf({0x1F, 0x8B, 8, 0, 0}), HasSubstr("gunzip"));
    EXPECT_THAT(ErrorOf({0xD4, 0xC3, 0xB2, 0xA1, 2}), HasSubstr("ends inside its header"));
    EXPECT_THROW(PcapFile("/nonexistent/capture.pcap"), PcapError);
}

TEST(PcapFile, TheErrorOfADamagedFileNamesTheOffset)
{
    Bytes huge = Capture().Add({1}).bytes();

    huge[24 + 8 + 3] = 0x7F; // the high byte of the captured length
    EXPECT_THAT(ErrorOf(huge), AllOf(HasSubstr("offset 24"), HasSubstr("not possible")));

    Blocks start;

    start.Section().Interface(1);

    const size_t offset = start.bytes().size();
    const std::string here = "offset " + std::to_string(offset);

    EXPECT_THAT(ErrorOf(Blocks(start).Enhanced(1, 0, {1}).bytes()), AllOf(HasSubstr(here), HasSubstr("interface 1")));
    EXPECT_THAT(ErrorOf(Blocks(start).Add(6, Bytes(8)).bytes()), AllOf(HasSubstr(here), HasSubstr("too short")));
    EXPECT_THAT(ErrorOf(Blocks(start).Add(1, Bytes(4)).bytes()), AllOf(HasSubstr(here), HasSubstr("too short")));
    EXPECT_THAT(ErrorOf(Blocks(start).Interface(1, {9, 0, 0xFF, 0, 1, 0, 0, 0}).bytes()),
                AllOf(HasSubstr(here), HasSubstr("option")));

    Bytes longer = Blocks(start).Enhanced(0, 0, {1, 2, 3, 4}).bytes();

    longer[offset + 8 + 12] = 200; // captured length
    EXPECT_THAT(ErrorOf(longer), AllOf(HasSubstr(here), HasSubstr("longer than its block")));

    Bytes trailer = Blocks(start).Enhanced(0, 0, {1, 2, 3, 4}).bytes();

    trailer[trailer.size() - 4] ^= 4;
    EXPECT_THAT(ErrorOf(trailer), AllOf(HasSubstr(here), HasSubstr("its own length")));

    Bytes odd = Blocks(start).Enhanced(0, 0, {1, 2, 3, 4}).bytes();

    odd[offset + 4] |= 1;
    EXPECT_THAT(ErrorOf(odd), AllOf(HasSubstr(here), HasSubstr("not possible")));

    Bytes order = start.bytes();

    order[8] = 0;
    EXPECT_THAT(ErrorOf(order), AllOf(HasSubstr("offset 0"), HasSubstr("byte order")));
}

TEST(PcapFile, StopsBetweenBlocksThatAreNoPackets)
{
    Blocks blocks;

    blocks.Section();
    for (int i = 0; i < 1000; ++i)
    {
        blocks.Add(0x0BAD, {});
    }

    const TemporaryFile content(blocks.bytes());
    std::atomic<bool> stopped{true};
    PcapFile file(content.path(), &stopped);
    Frame frame;

    EXPECT_FALSE(file.Next(&frame));
    EXPECT_LT(file.position(), 100);
    EXPECT_EQ("", file.truncated());
    stopped = false;
    EXPECT_FALSE(file.Next(&frame));
    EXPECT_EQ(file.size(), file.position());
}

TEST(PcapFile, SkipsBlocksAsFastAsItReadsPackets)
{
    constexpr int kBlocks = 200000;
    Blocks packets;
    Blocks others;

    packets.Section().Interface(101);
    others.Section().Interface(101);
    for (int i = 0; i < kBlocks; ++i)
    {
        packets.Enhanced(0, 0, {1, 2, 3, 4});
        others.Add(0x0BAD, {1, 2, 3, 4});
    }

    const double reading = SecondsToRead(packets.bytes());

    EXPECT_LT(SecondsToRead(others.bytes()), 2 * reading + 0.01);
}

TEST(PcapFile, ASectionHasABoundedNumberOfInterfaces)
{
    constexpr int kMost = 65536;
    Blocks blocks;

    blocks.Section();
    for (int i = 0; i < kMost; ++i)
    {
        blocks.Interface(101);
    }
    blocks.Enhanced(kMost - 1, 0, {1});

    const TemporaryFile content(blocks.bytes());
    PcapFile file(content.path());

    EXPECT_EQ(1, ReadAll(&file).size());
    EXPECT_THAT(ErrorOf(blocks.Interface(101).bytes()), HasSubstr("more than 65536 interfaces"));
}

TEST(PcapFile, APipeIsRefusedWithoutWaitingForItsOtherEnd)
{
    const TemporaryFile place({});

    ASSERT_EQ(0, std::remove(place.path().c_str()));
    ASSERT_EQ(0, mkfifo(place.path().c_str(), 0600));
    EXPECT_THROW(PcapFile{place.path()}, PcapError);
}

TEST(PcapFile, NoDamagedByteDoesHarm)
{
    Blocks blocks;

    blocks.Section().Interface(1, blocks.Resolution(9)).Enhanced(0, 1, {1, 2}).Simple(2, {3, 4}).Old(0, 5, {6});
    for (const Bytes &whole : {blocks.bytes(), Capture().Add({1, 2, 3}).Add({4}).bytes()})
    {
        for (size_t i = 0; i < whole.size(); ++i)
        {
            for (const uint8_t flip : {0x01, 0x80, 0xFF})
            {
                Bytes damaged = whole;

                damaged[i] ^= flip;

                const TemporaryFile file(damaged);

                try
                {
                    PcapFile capture(file.path());
                    ReadAll(&capture);
                }
                catch (const PcapError &)
                {
                }
            }
        }
    }
}

} // namespace
} // namespace sim::sources
