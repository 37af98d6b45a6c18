#include "model.h"

#include "support/command_splitter.h"
#include "support/verdicts.h"

#include "byte_order.h"

#include <algorithm>

namespace fuzz
{

using kext_test::LetsThrough;

void Model::Attached()
{
    splitter_.Clear();
    records_ = 0;
    Detached();
}

void Model::Detached()
{
    asked_.clear();
    reported_.clear();
    standings_.clear();
    fragments_let_go_.clear();
    doubtful_.clear();
    all_doubtful_ = false;
    guessed_ = false;
    OthersMayDecide();
}

void Model::Reloaded()
{
    Detached();
    last_id_ = 0;
    seen_.clear();
    ids_.clear();
    packets_.clear();
}

void Model::Read(const uint8_t *bytes, size_t length)
{
    ASSERT_TRUE(splitter_.Add(bytes, length, [this](const INFO_HEADER_WIRE &header, const uint8_t *record)
                              { Take(Record::Of(header, record)); }));
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
    case InfoConnectionInfo:
    case InfoConnectionEnded:
        break;
    default:
        ADD_FAILURE() << "record of unknown type " << int{record.type};
    }
}

void Model::TakeQuestion(const Question &question)
{
    const Key key = KeyOf(question.protocol, question.local_address, question.local_port, question.remote_address,
                          question.remote_port);
    uint32_t serial = 0;

    EXPECT_TRUE(seen_.insert(question.id).second) << "an id comes once";
    last_id_ = std::max(last_id_, question.id);
    ids_.push_back(question.id);
    reported_.insert(key);
    if (question.payload.size() >= sizeof(serial))
    {
        std::memcpy(&serial, question.payload.data() + question.payload.size() - sizeof(serial), sizeof(serial));
    }
    // A truncated payload does not end in its serial number.
    const auto packet = packets_.find(serial);
    asked_.emplace(question.id, Asked{key, packet != packets_.end() && packet->second.key == key ? serial : 0});
}

void Model::TakeEnd(const Record &record)
{
    const size_t length = record.type == InfoConnectionEndV6 ? 16 : 4;
    const auto address = record.body.begin() + 10;
    const auto after = static_cast<ptrdiff_t>(length);

    ASSERT_EQ(record.body.size(), 14 + 2 * length);

    const Key key = KeyOf(record.body[9], ByteVector(address, address + after), record.At<uint16_t>(10 + 2 * length),
                          ByteVector(address + after, address + 2 * after), record.At<uint16_t>(12 + 2 * length));
    // Conversations of a protocol without ports have the same fields, so the end of one leaves the others alive.
    const bool has_ports = record.body[9] == PROTOCOL_TCP || record.body[9] == PROTOCOL_UDP;

    EXPECT_EQ(has_ports ? reported_.erase(key) : reported_.count(key), 1u)
        << "the end of a connection that was not reported since its last end";
}

// Reads the commands as the driver does, up to the first one that it refuses.
void Model::Written(const ByteVector &bytes)
{
    kext_test::ForEachCommand(bytes.data(), bytes.size(), [this](const uint8_t *command) { CarryOut(command); });
}

void Model::CarryOut(const uint8_t *command)
{
    switch (command[0])
    {
    case CommandVerdict:
    {
        COMMAND_VERDICT_WIRE wire;

        std::memcpy(&wire, command, sizeof(wire));
        Verdict(wire.Id, wire.Verdict);
        break;
    }
    case CommandUpdateV4:
        Update(command, 4);
        break;
    case CommandUpdateV6:
        Update(command, 16);
        break;
    default:
        Perform(command[0]);
    }
}

void Model::Perform(uint8_t command)
{
    if (command == CommandShutdown)
    {
        asked_.clear(); // the fail policy decides
        OthersMayDecide();
    }
    if (command == CommandShutdown || command == CommandClearCache)
    {
        Forget();
    }
}

// The driver removes its connections. Packets that it is injecting are still sent.
void Model::Forget()
{
    for (auto &[key, standing] : standings_)
    {
        standing.lets_pass = false;
    }
    all_doubtful_ = true;
}

void Model::Verdict(uint64_t id, uint8_t verdict)
{
    constexpr uint64_t kMostUnread = 1 << 16;
    const auto found = asked_.find(id);

    if (found == asked_.end())
    {
        guessed_ = guessed_ || (id > last_id_ && id - last_id_ < kMostUnread);
        return;
    }

    const Asked asked = found->second;

    asked_.erase(found);
    standings_[asked.key].let_go += LetsThrough(verdict) ? 1 : 0;
    Decide(asked.key, verdict);
    if (asked.serial != 0)
    {
        DecideOnPacket(asked.serial, verdict);
    }
}

void Model::DecideOnPacket(uint32_t serial, uint8_t verdict)
{
    if (guessed_ || serial <= last_unsure_)
    {
        return;
    }

    Packet &packet = packets_.at(serial);

    packet.refused = !LetsThrough(verdict);
    if (reliable_ && !MayBeRefused(serial, packet) && kext_test::IsAccept(verdict))
    {
        owed_.insert(serial);
    }
}

void Model::Update(const uint8_t *command, size_t length)
{
    const uint8_t *local = command + 2;
    const uint8_t *remote = local + length + 2;

    Decide(KeyOf(command[1], ByteVector(local, local + length), sim::LoadLittle16(local + length),
                 ByteVector(remote, remote + length), sim::LoadLittle16(remote + length)),
           remote[length + 2]);
}

// A verdict on a connection that ended, or whose id now belongs to another connection, has no effect.
void Model::Decide(const Key &key, uint8_t verdict)
{
    Standing &standing = standings_[key];

    if (LetsThrough(verdict))
    {
        standing.lets_pass = true;
        fragments_let_go_.insert(HostsOf(key));
        standing.redirected = standing.redirected || kext_test::IsRedirect(verdict);
    }
    else if (!IsDoubtful(key))
    {
        standing.lets_pass = false;
    }
}

bool Model::IsDoubtful(const Key &key) const
{
    return all_doubtful_ || doubtful_.count({std::get<0>(key), std::get<1>(key), std::get<2>(key)}) != 0;
}

void Model::Ended(uint8_t protocol, const sim::net::Endpoint &local)
{
    doubtful_.insert({protocol, local.address, local.port});
}

void Model::OthersMayDecide()
{
    last_unsure_ = last_serial_;
}

void Model::SetReliable(bool reliable)
{
    reliable_ = reliable;
    if (!reliable)
    {
        ever_unreliable_ = true;
        owed_.clear();
    }
}

void Model::Sent(uint32_t serial, const Flow &flow, bool let_pass, bool fragment)
{
    Add(serial, flow, let_pass, fragment);
    EXPECT_TRUE(!let_pass || MayPass(packets_.at(serial))) << "left before a verdict";
}

void Model::Arrived(uint32_t serial, const Flow &flow, bool let_pass, bool fragment)
{
    Add(serial, flow, let_pass, fragment);
    packets_.at(serial).left_to_ale = fragment;
}

void Model::Add(uint32_t serial, const Flow &flow, bool let_pass, bool fragment)
{
    packets_.emplace(serial, Packet{KeyOf(flow), let_pass, fragment});
    last_serial_ = serial;
    if (fragment)
    {
        last_fragment_[HostsOf(KeyOf(flow))] = serial;
    }
}

// The driver may refuse an accepted fragment: a later fragment may overlap it.
bool Model::MayBeRefused(uint32_t serial, const Packet &packet) const
{
    return packet.fragment && last_fragment_.at(HostsOf(packet.key)) != serial;
}

// Fragments share the fate of their datagram's first fragment, which is found by its hosts, not by its ports.
bool Model::FollowsAFirst(const Packet &packet) const
{
    return packet.fragment && fragments_let_go_.count(HostsOf(packet.key)) != 0;
}

bool Model::MayPass(const Packet &packet)
{
    return !strict_ || guessed_ || standings_[packet.key].lets_pass || FollowsAFirst(packet);
}

bool Model::MayBeInjected(const Packet &packet)
{
    Standing &standing = standings_[packet.key];

    if (!strict_ || guessed_ || packet.left_to_ale || standing.redirected || FollowsAFirst(packet))
    {
        return true;
    }
    return standing.let_go != 0 && standing.let_go-- != 0;
}

void Model::Injected(uint32_t serial, bool at_endpoint)
{
    const auto found = packets_.find(serial);

    if (found == packets_.end())
    {
        return;
    }

    Packet &packet = found->second;

    if (packet.injected && packet.may_repeat != 0)
    {
        packet.may_repeat--;
        return;
    }
    EXPECT_FALSE(packet.let_pass) << "injected although it had passed";
    EXPECT_FALSE(packet.injected) << "injected twice";
    EXPECT_FALSE(packet.refused) << "injected although it was refused";
    EXPECT_TRUE(MayBeInjected(packet)) << "injected before a verdict";
    packet.injected = true;
    packet.may_repeat = !ever_unreliable_ ? 0 : at_endpoint ? 2 : 1;
    owed_.erase(serial);
}

void Model::Settled()
{
    EXPECT_TRUE(owed_.empty()) << "accepted, and not injected";
    owed_.clear();
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

} // namespace fuzz
