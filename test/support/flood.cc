#include "support/flood.h"

#include "support/wire_records.h"

#include <cstring>

namespace kext_test
{

namespace
{

// An odd factor makes each number another one.
constexpr uint32_t kSpread = 2654435761u;

Endpoint Local(uint16_t port, bool v6)
{
    return v6 ? V6(1, port) : V4(192, 0, 2, 1, port);
}

} // namespace

Endpoint Scattered(uint32_t n, uint16_t port, bool v6)
{
    const uint32_t spread = n * kSpread & 0xFFFFFF;
    const uint8_t high = static_cast<uint8_t>(spread >> 16);
    const uint8_t middle = static_cast<uint8_t>(spread >> 8);
    const uint8_t low = static_cast<uint8_t>(spread);

    if (!v6)
    {
        return V4(11, high, middle, low, port);
    }
    Endpoint endpoint = V6(low, port);

    endpoint.address[4] = high;
    endpoint.address[5] = middle;
    return endpoint;
}

Flow OneSocketToMany(uint32_t n, bool v6)
{
    return {PROTOCOL_UDP, Local(50'000, v6), Scattered(n, 6881, v6), kFloodingProcess};
}

Flow Scan(uint32_t n, bool v6)
{
    return {PROTOCOL_TCP, Local(static_cast<uint16_t>(1024 + n % 60'000), v6), Scattered(n, 443, v6), kFloodingProcess};
}

Flow SpoofedSender(uint32_t n, bool v6)
{
    return {PROTOCOL_UDP, Local(kServerPort, v6), Scattered(n, 40'000, v6), kServerProcess};
}

Flow Bystander(uint32_t n, bool v6)
{
    Flow flow{PROTOCOL_TCP, Local(static_cast<uint16_t>(10'000 + n % 50'000), v6), Local(443, v6), 4321};

    flow.remote.address[3] = 77;
    return flow;
}

Answerer::Reading Answerer::Answer(uint64_t process)
{
    return Read(process, true);
}

Answerer::Reading Answerer::AnswerOnly(uint64_t process)
{
    return Read(process, false);
}

Answerer::Reading Answerer::Read(uint64_t process, bool answers_all)
{
    Reading reading;
    ByteVector verdicts;

    for (const Record &record : client_.Read())
    {
        if (IsQuestion(record))
        {
            const Question question = ParseQuestion(record);
            const bool is_looked_for = process != 0 && question.process_id == process;

            if (answers_all || is_looked_for)
            {
                Add(&verdicts, question.id);
            }
            if (is_looked_for && !reading.before)
            {
                reading.before = reading.records;
            }
            reading.questions++;
        }
        reading.ends += record.type == InfoConnectionEndV4 || record.type == InfoConnectionEndV6 ? 1 : 0;
        reading.records++;
    }
    Send(&verdicts);
    questions_ += reading.questions;
    ends_ += reading.ends;
    return reading;
}

void Answerer::Add(ByteVector *verdicts, uint64_t id)
{
    const COMMAND_VERDICT_WIRE wire{CommandVerdict, id, verdict_};
    const auto *bytes = reinterpret_cast<const uint8_t *>(&wire);

    verdicts->insert(verdicts->end(), bytes, bytes + sizeof(wire));
    if (verdicts->size() == PROTOCOL_MAX_COMMANDS_PER_WRITE * sizeof(wire))
    {
        Send(verdicts);
    }
}

void Answerer::Send(ByteVector *verdicts)
{
    if (!verdicts->empty())
    {
        EXPECT_EQ(client_.Write(*verdicts).status, STATUS_SUCCESS);
        verdicts->clear();
    }
}

} // namespace kext_test
