// The log holds no text that a program, a remote end or the client chooses.
// So nobody can forge a log line or control the terminal of its reader.
#include "support/commands.h"
#include "support/driver_test.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>

namespace kext_test
{
namespace
{

class LogInjectionTest : public DriverTest
{
  protected:
    LogInjectionTest()
    {
        OPTIONS_WIRE options = Client::DefaultOptions();

        options.LogLevel = LogSeverityTrace;
        EXPECT_EQ(client_.SetOptions(options), STATUS_SUCCESS);
    }

    // An attacker's text: a line break, a forged line, and a sequence that clears the screen.
    static std::string Forgery() { return "\r\nforged \x1b[2J"; }
    static ByteVector ForgedBytes()
    {
        const std::string text = Forgery();

        return ByteVector(text.begin(), text.end());
    }

    void ExpectOnlyOurWords()
    {
        const std::vector<std::string> lines = client_.GetLogs();

        EXPECT_FALSE(lines.empty());
        for (const std::string &line : lines)
        {
            EXPECT_THAT(line, testing::Not(testing::HasSubstr("forged")));
            EXPECT_TRUE(std::all_of(line.begin(), line.end(), [](char c) { return c >= ' ' && c <= '~'; })) << line;
        }
    }
};

TEST_F(LogInjectionTest, AProgramsPathIsNotInTheLog)
{
    AleOptions options;

    options.process_path = u"\\device\\harddiskvolume1\\\r\nforged \x1b[2J.exe";
    EXPECT_TRUE(network_.Connect(Flow{}, nullptr, options).pended());
    network_.Bind(PROTOCOL_TCP, V4(0, 0, 0, 0, 8080), 77);
    client_.Verdict(client_.ReadQuestion().id, VerdictPermanentBlock);
    ExpectOnlyOurWords();
}

TEST_F(LogInjectionTest, APacketsPayloadIsNotInTheLog)
{
    ByteVector malformed = MakePacket(Flow{}, true, ForgedBytes());

    malformed[2] = 0xFF;
    EXPECT_FALSE(network_.Inbound(malformed).permitted());
    EXPECT_TRUE(network_.Outbound(MakePacket(Flow{}, false, ForgedBytes())).absorbed());
    client_.Verdict(client_.ReadQuestion().id, VerdictDrop);
    ExpectOnlyOurWords();
}

TEST_F(LogInjectionTest, AClientsBytesAreNotInTheLog)
{
    uint64_t id = 0;

    std::memcpy(&id, Forgery().data(), sizeof(id));
    client_.Write(ForgedBytes());
    client_.Write(VerdictBytes(id, VerdictAccept));
    ExpectOnlyOurWords();
}

} // namespace
} // namespace kext_test
