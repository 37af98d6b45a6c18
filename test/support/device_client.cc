#include "support/device_client.h"

#include "options.h"

#include "support/async_read.h"
#include "support/commands.h"

#include "nt/fault_injection.h"

#include <cstdio>
#include <cstring>
#include <utility>

namespace kext_test
{

namespace
{

constexpr size_t kReadLength = 1 << 16;

} // namespace

NTSTATUS Client::Open(const std::u16string &name)
{
    const NTSTATUS status = io_.Open(name, &file_);

    if (NT_SUCCESS(status))
    {
        is_observed_ = true;
        observer_.Opened(Observed(GetStatistics()));
    }
    return status;
}

NTSTATUS Client::OpenForQuery()
{
    return io_.Open(u"\\\\.\\NetVerdict", &file_, FILE_READ_ATTRIBUTES);
}

void Client::Close()
{
    if (file_ != nullptr)
    {
        CheckInvariants();
        observer_.OthersMayDecide();
        io_.Close(std::exchange(file_, nullptr));
    }
}

void Client::CheckInvariants()
{
    if (file_ == nullptr || !is_observed_)
    {
        return;
    }
    Statistics statistics;
    uint64_t queued;

    // A worker may still queue events.
    do
    {
        queued = GetStatistics().EventsQueued;
        ReadAllThatIsLeft();
        statistics = GetStatistics();
    } while (statistics.EventsQueued != queued);
    for (const std::string &problem : observer_.Problems(Observed(statistics)))
    {
        std::fprintf(stderr, "INVARIANT %s\n", problem.c_str()); // test/faults looks for it where a test may fail
        ADD_FAILURE() << problem;
    }
}

ByteVector Client::ReadBytes(NTSTATUS *status)
{
    ByteVector stream;

    for (;;)
    {
        AsyncRead read;

        read.ReadNow(io_, file_, kReadLength);
        if (read.status == STATUS_CANCELLED)
        {
            return stream;
        }
        if (!NT_SUCCESS(read.status))
        {
            if (status != nullptr)
            {
                *status = read.status;
            }
            return stream;
        }
        observer_.Read(read.buffer.data(), read.information);
        stream.insert(stream.end(), read.buffer.begin(),
                      read.buffer.begin() + static_cast<ptrdiff_t>(read.information));
    }
}

// A read that fails for lack of memory takes nothing from the queue.
void Client::ReadAllThatIsLeft()
{
    NTSTATUS status;

    do
    {
        status = STATUS_SUCCESS;
        ReadBytes(&status);
    } while (status == STATUS_INSUFFICIENT_RESOURCES);
}

std::vector<Record> Client::ReadType(uint8_t type)
{
    std::vector<Record> wanted;

    for (Record &record : Read())
    {
        if (record.type == type)
        {
            wanted.push_back(std::move(record));
        }
    }
    return wanted;
}

std::vector<Question> Client::ReadQuestions()
{
    std::vector<Question> questions;

    for (const Record &record : Read())
    {
        if (IsQuestion(record))
        {
            questions.push_back(ParseQuestion(record));
        }
    }
    return questions;
}

Question Client::ReadQuestion()
{
    std::vector<Question> questions = ReadQuestions();

    EXPECT_EQ(questions.size(), 1u);
    return questions.empty() ? Question{} : questions.front();
}

std::vector<std::string> Client::GetLogs()
{
    std::vector<std::string> lines;

    EXPECT_EQ(Command(CommandGetLogs).status, STATUS_SUCCESS);
    for (const Record &record : ReadType(InfoLogLine))
    {
        lines.push_back(record.Text(1));
    }
    return lines;
}

sim::nt::IoResult Client::Write(const ByteVector &bytes)
{
    observer_.Writes(bytes.data(), bytes.size());
    const sim::nt::IoResult result = io_.WriteAndWait(file_, bytes.data(), static_cast<uint32_t>(bytes.size()));

    observer_.Wrote(bytes.data(), bytes.size(), result.information);
    return result;
}

sim::nt::IoResult Client::Verdict(uint64_t id, uint8_t verdict)
{
    return Write(VerdictBytes(id, verdict));
}

sim::nt::IoResult Client::Control(uint32_t code, const ByteVector &in, ByteVector *out)
{
    const bool updates = code == IOCTL_NETVERDICT_UPDATE_CONNECTION;

    observer_.Controls(code, in.data(), in.size());
    if (updates)
    {
        observer_.Writes(in.data(), in.size());
    }
    const sim::nt::IoResult result = io_.DeviceControlAndWait(file_, code, in.data(), static_cast<uint32_t>(in.size()),
                                                              out->data(), static_cast<uint32_t>(out->size()));

    if (updates)
    {
        observer_.Wrote(in.data(), in.size(), NT_SUCCESS(result.status) ? in.size() : 0);
    }
    if (NT_SUCCESS(result.status))
    {
        out->resize(result.information);
    }
    if (NT_SUCCESS(result.status) && code == IOCTL_NETVERDICT_SET_OPTIONS)
    {
        observer_.TookOptions(in.data(), in.size(), Observed(GetStatistics()));
    }
    return result;
}

OPTIONS_WIRE Client::DefaultOptions()
{
    OPTIONS options;

    OptionsSetDefaults(&options);
    return options;
}

NTSTATUS Client::SetOptions(const OPTIONS_WIRE &options)
{
    const auto *bytes = reinterpret_cast<const uint8_t *>(&options);
    ByteVector out;

    return Control(IOCTL_NETVERDICT_SET_OPTIONS, ByteVector(bytes, bytes + sizeof(options)), &out).status;
}

NTSTATUS Client::Keepalive()
{
    ByteVector out;

    return Control(IOCTL_NETVERDICT_KEEPALIVE, {}, &out).status;
}

Statistics Client::GetStatistics()
{
    ByteVector out(sizeof(STATISTICS_WIRE));
    Statistics statistics;

    EXPECT_EQ(Control(IOCTL_NETVERDICT_GET_STATISTICS, {}, &out).status, STATUS_SUCCESS);
    EXPECT_EQ(out.size(), sizeof(STATISTICS_WIRE));
    std::memcpy(&statistics, out.data() + sizeof(uint32_t), sizeof(statistics));
    return statistics;
}

netverdict_test::Observer::Counters Client::Observed(const Statistics &statistics) const
{
    return {statistics.EventsQueued,    statistics.EventsDelivered,      statistics.EventsLost,
            statistics.VerdictsApplied, statistics.VerdictsUnknownId,    statistics.PacketsHeld,
            statistics.ClientStalls,    machine_.faults().all_failures()};
}

} // namespace kext_test
