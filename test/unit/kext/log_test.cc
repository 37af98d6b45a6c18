#include "log.h"

#include "kext_test.h"

#include <set>

namespace
{

struct Line
{
    UINT8 severity;
    std::string text;
};

class LogTest : public kext_test::KextTest
{
  protected:
    LogTest() { EXPECT_EQ(LogInitialize(&log_, &memory_), STATUS_SUCCESS); }
    ~LogTest() override { LogUninitialize(&log_); }

    static BOOLEAN Collect(void *context, UINT8 severity, const CHAR *text, UINT32 length)
    {
        static_cast<std::vector<Line> *>(context)->push_back({severity, std::string(text, length)});
        return TRUE;
    }

    std::vector<Line> Drain()
    {
        std::vector<Line> lines;

        overwritten_ = LogDrain(&log_, Collect, &lines);
        return lines;
    }

    static std::string Message(const Line &line) { return line.text.substr(line.text.find(' ') + 1); }

    LOG log_;
    UINT64 overwritten_ = 0;
};

int Evaluated(int *count)
{
    return ++*count;
}

TEST_F(LogTest, KeepsLinesInOrderWithSeverityFileAndLine)
{
    LogWrite(&log_, LogSeverityError, "kext/io_queue.c", 17, "read %u of %s failed", 3u, "client");
    LogWrite(&log_, LogSeverityCritical, "C:\\src\\kext\\driver.c", 4, "no memory");

    const std::vector<Line> lines = Drain();
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_EQ(lines[0].severity, LogSeverityError);
    EXPECT_EQ(lines[0].text, "io_queue.c:17 read 3 of client failed");
    EXPECT_EQ(lines[1].severity, LogSeverityCritical);
    EXPECT_EQ(lines[1].text, "driver.c:4 no memory");
    EXPECT_EQ(overwritten_, 0u);
}

TEST_F(LogTest, DrainedLinesAreGone)
{
    LogError(&log_, "once");
    EXPECT_EQ(Drain().size(), 1u);
    EXPECT_EQ(Drain().size(), 0u);
    LogError(&log_, "again");
    EXPECT_EQ(Drain().size(), 1u);
}

TEST_F(LogTest, TheLevelIsCheckedBeforeArgumentsAreEvaluated)
{
    int evaluated = 0;

    LogInfo(&log_, "%d", Evaluated(&evaluated));
    LogDebug(&log_, "%d", Evaluated(&evaluated));
    LogTrace(&log_, "%d", Evaluated(&evaluated));
    EXPECT_EQ(evaluated, 0);
    LogWarning(&log_, "%d", Evaluated(&evaluated));
    LogError(&log_, "%d", Evaluated(&evaluated));
    LogCritical(&log_, "%d", Evaluated(&evaluated));
    EXPECT_EQ(evaluated, 3);
    EXPECT_EQ(Drain().size(), 3u);
}

TEST_F(LogTest, TheLevelCanBeChanged)
{
    LogSetLevel(&log_, LogSeverityTrace);
    LogTrace(&log_, "kept");
    LogSetLevel(&log_, 7);
    LogCritical(&log_, "not kept");
    LogSetLevel(&log_, 0);
    LogTrace(&log_, "kept too");
    EXPECT_EQ(Drain().size(), 2u);
}

TEST_F(LogTest, CutsLongLines)
{
    for (size_t length : {480u, 488u, 489u, 490u, 491u, 495u, 499u, 500u, 501u, 5000u})
    {
        const std::string text(length, 'x');

        LogWrite(&log_, LogSeverityError, "f.c", 12345, "%s", text.c_str());
        const std::vector<Line> lines = Drain();
        ASSERT_EQ(lines.size(), 1u);
        EXPECT_EQ(lines[0].text, ("f.c:12345 " + text).substr(0, LOG_LINE_MAX_LENGTH));
    }
}

TEST_F(LogTest, ALongFileNameIsCutToo)
{
    const std::string name(800, 'n');

    LogWrite(&log_, LogSeverityError, name.c_str(), 1, "text");
    const std::vector<Line> lines = Drain();
    ASSERT_EQ(lines.size(), 1u);
    EXPECT_EQ(lines[0].text, name.substr(0, LOG_LINE_MAX_LENGTH));
}

TEST_F(LogTest, KeepsTheNewestLinesAndCountsTheOverwritten)
{
    for (unsigned i = 0; i < LOG_LINE_COUNT + 100; i++)
    {
        LogError(&log_, "%u", i);
    }
    const std::vector<Line> lines = Drain();
    ASSERT_EQ(lines.size(), static_cast<size_t>(LOG_LINE_COUNT));
    EXPECT_EQ(Message(lines.front()), "100");
    EXPECT_EQ(Message(lines.back()), std::to_string(LOG_LINE_COUNT + 99));
    EXPECT_EQ(overwritten_, 100u);

    LogError(&log_, "next");
    EXPECT_EQ(Drain().size(), 1u);
    EXPECT_EQ(overwritten_, 0u);
}

TEST_F(LogTest, ExactlyAFullRingLosesNothing)
{
    for (unsigned round = 0; round < 3; round++)
    {
        for (unsigned i = 0; i < LOG_LINE_COUNT; i++)
        {
            LogError(&log_, "%u", i);
        }
        EXPECT_EQ(Drain().size(), static_cast<size_t>(LOG_LINE_COUNT));
        EXPECT_EQ(overwritten_, 0u);
    }
}

TEST_F(LogTest, AVisitorThatStopsKeepsItsLineAndTheRest)
{
    struct Visit
    {
        unsigned taken = 0;
        static BOOLEAN Two(void *context, UINT8, const CHAR *, UINT32)
        {
            Visit *visit = static_cast<Visit *>(context);

            return visit->taken < 2 ? (visit->taken++, TRUE) : FALSE;
        }
    } visit;

    for (unsigned i = 0; i < 5; i++)
    {
        LogError(&log_, "%u", i);
    }
    LogDrain(&log_, Visit::Two, &visit);
    EXPECT_EQ(visit.taken, 2u);
    const std::vector<Line> lines = Drain();
    ASSERT_EQ(lines.size(), 3u);
    EXPECT_EQ(Message(lines[0]), "2");
}

TEST_F(LogTest, AVisitorMayLogItself)
{
    struct Visit
    {
        static BOOLEAN Log(void *context, UINT8, const CHAR *, UINT32)
        {
            LogError(static_cast<LOG *>(context), "from the visitor");
            return TRUE;
        }
    };

    for (unsigned i = 0; i < LOG_LINE_COUNT; i++)
    {
        LogError(&log_, "%u", i);
    }
    LogDrain(&log_, Visit::Log, &log_);
    for (const Line &line : Drain())
    {
        EXPECT_EQ(Message(line), "from the visitor");
    }
}

TEST_F(LogTest, MayBeWrittenAtDispatchLevel)
{
    {
        kext_test::AtDispatchLevel dispatch;

        LogError(&log_, "id %llu, %08x", 123456789012345ull, 0xC000009Au);
    }
    const std::vector<Line> lines = Drain();
    ASSERT_EQ(lines.size(), 1u);
    EXPECT_EQ(Message(lines[0]), "id 123456789012345, c000009a");
}

TEST_F(LogTest, WithoutMemoryNothingIsKeptAndNothingBreaks)
{
    LOG log;

    machine_.faults().FailAll();
    EXPECT_EQ(LogInitialize(&log, &memory_), STATUS_INSUFFICIENT_RESOURCES);
    machine_.faults().Stop();
    LogError(&log, "lost");
    std::vector<Line> lines;
    EXPECT_EQ(LogDrain(&log, Collect, &lines), 0u);
    EXPECT_TRUE(lines.empty());
    LogUninitialize(&log);
}

TEST_F(LogTest, WritersAndDrainsRaceWithoutTornOrRepeatedLines)
{
    constexpr unsigned kWriters = 3;
    constexpr unsigned kLines = 4000;
    std::vector<Line> drained;
    std::atomic<unsigned> writing{kWriters};
    UINT64 overwritten = 0;

    RunThreads(kWriters + 1,
               [&](unsigned thread)
               {
                   if (thread == kWriters)
                   {
                       while (writing > 0)
                       {
                           overwritten += LogDrain(&log_, Collect, &drained);
                       }
                       return;
                   }
                   for (unsigned i = 0; i < kLines; i++)
                   {
                       const std::string tail(i % 300, static_cast<char>('a' + thread));

                       LogError(&log_, "%u %u %s", thread, i, tail.c_str());
                   }
                   writing--;
               });
    overwritten += LogDrain(&log_, Collect, &drained);

    std::set<std::string> seen;
    for (const Line &line : drained)
    {
        unsigned thread;
        unsigned i;
        const std::string message = Message(line);

        ASSERT_EQ(sscanf(message.c_str(), "%u %u", &thread, &i), 2) << message;
        const std::string tail(i % 300, static_cast<char>('a' + thread));
        EXPECT_EQ(message, std::to_string(thread) + " " + std::to_string(i) + " " + tail);
        EXPECT_TRUE(seen.insert(message).second) << message;
    }
    EXPECT_EQ(drained.size() + overwritten, static_cast<size_t>(kWriters * kLines));
}

} // namespace
