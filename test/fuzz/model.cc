#include "model.h"

namespace fuzz
{

namespace
{

uint16_t PortAt(const uint8_t *bytes)
{
    return static_cast<uint16_t>(bytes[0] | bytes[1] << 8);
}

} // namespace

void Model::Attached()
{
    stream_.clear();
    records_ = 0;
}

void Model::Reloaded()
{
    last_id_ = 0;
    ids_.clear();
    asked_.clear();
    verdicts_.clear();
    told_.clear();
    allowed_.clear();
    packets_.clear();
}

void Model::Read(const uint8_t *bytes, size_t length)
{
    stream_.insert(stream_.end(), bytes, bytes + length);

    size_t at = 0;

    while (stream_.size() - at >= sizeof(INFO_HEADER_WIRE))
    {
        uint32_t body;

        std::memcpy(&body, &stream_[at + 1], sizeof(body));
        ASSERT_LE(body, PROTOCOL_MAX_RECORD_LENGTH);
        if (stream_.size() - at - sizeof(INFO_HEADER_WIRE) < body)
        {
            break;
        }

        const auto start = stream_.begin() + static_cast<ptrdiff_t>(at + sizeof(INFO_HEADER_WIRE));
        Take({stream_[at], ByteVector(start, start + body)});
        at += sizeof(INFO_HEADER_WIRE) + body;
    }
    stream_.erase(stream_.begin(), stream_.begin() + static_cast<ptrdiff_t>(at));
}

void Model::Take(const Record &record)
{
    records_++;
    switch (record.type)
    {
    case InfoConnectionV4:
    case InfoConnectionV6:
        TakeQuestion(kext_test::ParseQuestion(record));
        break;
    case InfoConnectionEndV4:
    case InfoConnectionEndV6:
        TakeEnd(record);
        break;
    case InfoLogLine:
    case InfoBandwidthStatsV4:
    case InfoBandwidthStatsV6:
    case InfoEventsLost:
    case InfoReplyEnd:
    case InfoProcessInfo:
    case InfoConnectionTimeout:
        break;
    default:
        ADD_FAILURE() << "record of unknown type " << int{record.type};
    }
}

void Model::TakeQuestion(const Question &question)
{
    const Key key = KeyOf(question.protocol, question.local_address, question.local_port, question.remote_address,
                          question.remote_port);

    EXPECT_GT(question.id, last_id_);
    last_id_ = question.id;
    ids_.push_back(question.id);
    asked_.emplace(question.id, key);
    told_.insert(key);

    const auto early = verdicts_.find(question.id);
    if (early != verdicts_.end() && LetsPass(early->second))
    {
        allowed_.insert(key);
    }
}

void Model::TakeEnd(const Record &record)
{
    const size_t length = record.type == InfoConnectionEndV6 ? 16 : 4;
    const auto address = record.body.begin() + 10;
    const auto after = static_cast<ptrdiff_t>(length);

    ASSERT_EQ(record.body.size(), 14 + 2 * length);
    EXPECT_EQ(
        told_.count(KeyOf(record.body[9], ByteVector(address, address + after), record.At<uint16_t>(10 + 2 * length),
                          ByteVector(address + after, address + 2 * after), record.At<uint16_t>(12 + 2 * length))),
        1u)
        << "the end of a connection that was not told of";
}

// As the driver reads a write, up to the first command that it refuses; verdicts of a refused one count too.
void Model::Written(const ByteVector &bytes)
{
    for (size_t at = 0; at < bytes.size();)
    {
        constexpr size_t kLengths[CommandCount] = {
            1, sizeof(COMMAND_VERDICT_WIRE), sizeof(COMMAND_UPDATE_V4_WIRE), sizeof(COMMAND_UPDATE_V6_WIRE), 1, 1, 1, 1,
            1};
        const uint8_t *command = &bytes[at];

        if (*command >= CommandCount || bytes.size() - at < kLengths[*command])
        {
            return;
        }
        if (*command == CommandVerdict)
        {
            uint64_t id;

            std::memcpy(&id, command + 1, sizeof(id));
            Verdict(id, command[9]);
        }
        else if (*command == CommandUpdateV4 || *command == CommandUpdateV6)
        {
            Update(command, *command == CommandUpdateV6 ? 16 : 4);
        }
        at += kLengths[*command];
    }
}

void Model::Verdict(uint64_t id, uint8_t verdict)
{
    const auto asked = asked_.find(id);

    if (asked == asked_.end())
    {
        verdicts_[id] = std::max(verdicts_[id], LetsPass(verdict) ? verdict : uint8_t{0});
    }
    else if (LetsPass(verdict))
    {
        allowed_.insert(asked->second);
    }
}

void Model::Update(const uint8_t *command, size_t length)
{
    const uint8_t *local = command + 2;
    const uint8_t *remote = local + length + 2;

    if (LetsPass(remote[length + 2]))
    {
        allowed_.insert(KeyOf(command[1], ByteVector(local, local + length), PortAt(local + length),
                              ByteVector(remote, remote + length), PortAt(remote + length)));
    }
}

void Model::Sent(uint32_t serial, const Flow &flow, bool let_pass)
{
    Add(serial, flow, let_pass);
    EXPECT_TRUE(!let_pass || MayPass(KeyOf(flow))) << "left before a verdict";
}

void Model::Arrived(uint32_t serial, const Flow &flow, bool let_pass)
{
    Add(serial, flow, let_pass);
}

void Model::Add(uint32_t serial, const Flow &flow, bool let_pass)
{
    packets_.emplace(serial, Packet{KeyOf(flow), let_pass, false});
}

void Model::Injected(uint32_t serial)
{
    const auto found = packets_.find(serial);

    if (found == packets_.end())
    {
        return;
    }

    Packet &packet = found->second;

    EXPECT_FALSE(packet.let_pass) << "injected although it had passed";
    EXPECT_FALSE(packet.injected) << "injected twice";
    EXPECT_TRUE(MayPass(packet.key)) << "injected before a verdict";
    packet.injected = true;
}

Model::Key Model::KeyOf(const Flow &flow)
{
    return {flow.protocol, flow.local.address, flow.local.port, flow.remote.address, flow.remote.port};
}

Model::Key Model::KeyOf(uint8_t protocol, const ByteVector &local, uint16_t local_port, const ByteVector &remote,
                        uint16_t remote_port)
{
    std::array<uint8_t, 16> local_address{};
    std::array<uint8_t, 16> remote_address{};

    std::copy(local.begin(), local.end(), local_address.begin());
    std::copy(remote.begin(), remote.end(), remote_address.begin());
    return {protocol, local_address, local_port, remote_address, remote_port};
}

bool Model::LetsPass(uint8_t verdict)
{
    return verdict == VerdictAccept || verdict == VerdictPermanentAccept || verdict == VerdictRedirectNameServer ||
           verdict == VerdictRedirectTunnel || verdict == VerdictRedirectSplitTunnel;
}

} // namespace fuzz
