#include "support/observer.h"

#include "support/command_splitter.h"
#include "support/verdicts.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "byte_order.h"

namespace netverdict_test
{

using kext_test::ForEachCommand;
using kext_test::IsRedirect;
using kext_test::LetsThrough;

namespace
{

// RFC 8200, RFC 4302.
constexpr uint8_t kHopByHopHeader = 0;
constexpr uint8_t kRoutingHeader = 43;
constexpr uint8_t kFragmentHeader = 44;
constexpr uint8_t kAuthenticationHeader = 51;
constexpr uint8_t kDestinationHeader = 60;
constexpr uint16_t kFragmentBits = 0x3FFF; // RFC 791: more fragments, and the offset

template <typename Wire> Wire WireAt(const uint8_t *bytes)
{
    Wire wire;

    std::memcpy(&wire, bytes, sizeof(wire));
    return wire;
}

// An older client sends a shorter structure: the options that it does not know are 0.
OPTIONS_WIRE OptionsAt(const void *input, size_t length)
{
    OPTIONS_WIRE options{};

    std::copy_n(static_cast<const uint8_t *>(input), std::min(length, sizeof(options)),
                reinterpret_cast<uint8_t *>(&options));
    return options;
}

bool HasPorts(uint8_t protocol)
{
    return protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP;
}

// The address that a resolver of this computer has, and its client too.
std::string Loopback(size_t address_length)
{
    std::string address(address_length, '\0');

    address.front() = address_length == 4 ? 127 : 0;
    address.back() = 1;
    return address;
}

// Finds the transport protocol and the offset of its header. Returns false for a fragment or a truncated packet.
bool FindPayload(const uint8_t *packet, size_t length, uint8_t *protocol, size_t *offset)
{
    if (length < 20)
    {
        return false;
    }
    if (packet[0] >> 4 != 6)
    {
        *protocol = packet[9];
        *offset = (packet[0] & 0xF) * 4u;
        if (*protocol == kAuthenticationHeader && length >= *offset + 4)
        {
            *protocol = packet[*offset];
            *offset += 4 * (packet[*offset + 1] + 2u);
        }
        return (sim::LoadBig16(packet + 6) & kFragmentBits) == 0 && length >= *offset + 4;
    }
    *protocol = packet[6];
    *offset = 40;
    while (length >= *offset + 4)
    {
        const size_t units = packet[*offset + 1];

        switch (*protocol)
        {
        case kFragmentHeader:
            return false;
        case kHopByHopHeader:
        case kRoutingHeader:
        case kDestinationHeader:
            *protocol = packet[*offset];
            *offset += 8 + 8 * units;
            break;
        case kAuthenticationHeader:
            *protocol = packet[*offset];
            *offset += 4 * (units + 2);
            break;
        default:
            return true;
        }
    }
    return false;
}

} // namespace

bool Observer::Counters::operator==(const Counters &other) const
{
    const auto all = [](const Counters &of)
    {
        return std::tie(of.events_queued, of.events_delivered, of.events_lost, of.verdicts_applied,
                        of.verdicts_unknown_id, of.packets_held, of.client_stalls, of.failed_calls);
    };

    return all(*this) == all(other);
}

bool Observer::End::operator<(const End &other) const
{
    return std::tie(address, port) < std::tie(other.address, other.port);
}

bool Observer::Connection::operator<(const Connection &other) const
{
    return std::tie(protocol, local, remote) < std::tie(other.protocol, other.local, other.remote);
}

Observer::Connection Observer::MakeConnection(uint8_t protocol, const uint8_t *local, const uint8_t *remote,
                                              size_t address_length, uint16_t local_port, uint16_t remote_port)
{
    const bool has_ports = HasPorts(protocol);
    const auto end = [&](const uint8_t *address, uint16_t port)
    { return End{std::string(address, address + address_length), static_cast<uint16_t>(has_ports ? port : 0)}; };

    return {protocol, end(local, local_port), end(remote, remote_port)};
}

template <typename Wire> Observer::Connection Observer::ConnectionOf(const Wire &wire)
{
    return MakeConnection(wire.Protocol, wire.LocalAddress, wire.RemoteAddress, sizeof(wire.LocalAddress),
                          wire.LocalPort, wire.RemotePort);
}

Observer::Connection Observer::Conversation(const Connection &connection)
{
    Connection sorted = connection;

    if (sorted.remote < sorted.local)
    {
        std::swap(sorted.local, sorted.remote);
    }
    return sorted;
}

void Observer::Opened(const Counters &before, bool is_exact)
{
    const std::lock_guard<std::mutex> lock(mutex_);

    before_ = before;
    is_exact_ = is_exact;
    splitter_.Clear();
    records_ = 0;
    reported_losses_ = 0;
    unreported_losses_.reset();
    questions_.clear();
    alive_.clear();
    steps_.clear();
}

// ---- Reads

void Observer::Read(const uint8_t *bytes, size_t length)
{
    const std::lock_guard<std::mutex> lock(mutex_);

    splitter_.Add(bytes, length,
                  [this](const INFO_HEADER_WIRE &header, const uint8_t *record)
                  {
                      ReadRecord(header.Type, record, sizeof(header) + header.Length);
                      records_++;
                  });
}

// `record` begins with its header.
void Observer::ReadRecord(uint8_t type, const uint8_t *record, size_t length)
{
    const auto connection = [&](auto wire) { ReadConnection(ConnectionOf(wire), wire.Id, wire.ProcessId); };
    const auto end = [&](auto wire) { ReadConnectionEnd(ConnectionOf(wire), wire.ProcessId); };

    if (type == InfoConnectionV4 && length >= sizeof(CONNECTION_V4_WIRE))
    {
        connection(WireAt<CONNECTION_V4_WIRE>(record));
    }
    else if (type == InfoConnectionV6 && length >= sizeof(CONNECTION_V6_WIRE))
    {
        connection(WireAt<CONNECTION_V6_WIRE>(record));
    }
    else if (type == InfoConnectionEndV4 && length == sizeof(CONNECTION_END_V4_WIRE))
    {
        end(WireAt<CONNECTION_END_V4_WIRE>(record));
    }
    else if (type == InfoConnectionEndV6 && length == sizeof(CONNECTION_END_V6_WIRE))
    {
        end(WireAt<CONNECTION_END_V6_WIRE>(record));
    }
    else if (type == InfoEventsLost && length >= sizeof(EVENTS_LOST_WIRE))
    {
        reported_losses_ += WireAt<EVENTS_LOST_WIRE>(record).Count;
    }
}

void Observer::ReadConnection(const Connection &connection, uint64_t id, uint64_t process_id)
{
    if (id == 0 || !ids_.insert(id).second)
    {
        Report("id " + std::to_string(id) + " came twice, or is 0");
    }
    questions_[id] = connection;
    alive_[connection].insert(process_id);
}

void Observer::ReadConnectionEnd(const Connection &connection, uint64_t process_id)
{
    // The packet layer asks with process 0.
    // Connections of a protocol without ports have the same fields, so the end of one leaves the others alive.
    std::set<uint64_t> &processes = alive_[connection];

    if (processes.count(process_id) + processes.count(0) == 0)
    {
        Report("a ConnectionEnd came without its Connection, or a second time");
    }
    if (HasPorts(connection.protocol))
    {
        processes.erase(process_id);
        processes.erase(0);
    }
}

// ---- Writes and injections

std::vector<Observer::Step> Observer::StepsOf(const uint8_t *bytes, size_t length) const
{
    std::vector<Step> steps;

    ForEachCommand(bytes, length, [&](const uint8_t *command) { AddStep(command, &steps); });
    return steps;
}

// Other commands decide nothing.
void Observer::AddStep(const uint8_t *command, std::vector<Step> *steps) const
{
    if (command[0] == CommandVerdict)
    {
        const auto wire = WireAt<COMMAND_VERDICT_WIRE>(command);

        steps->push_back({Step::kVerdict, wire.Id, wire.Verdict, {}, questions_.count(wire.Id) == 0});
    }
    else if (command[0] == CommandUpdateV4)
    {
        const auto wire = WireAt<COMMAND_UPDATE_V4_WIRE>(command);

        steps->push_back({Step::kUpdate, 0, wire.Verdict, ConnectionOf(wire)});
    }
    else if (command[0] == CommandUpdateV6)
    {
        const auto wire = WireAt<COMMAND_UPDATE_V6_WIRE>(command);

        steps->push_back({Step::kUpdate, 0, wire.Verdict, ConnectionOf(wire)});
    }
    else if (command[0] == CommandShutdown)
    {
        steps->push_back({Step::kOthers, 0, 0, {}});
    }
}

void Observer::Writes(const uint8_t *bytes, size_t length)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::vector<Step> steps = StepsOf(bytes, length);

    steps_.insert(steps_.end(), steps.begin(), steps.end());
}

void Observer::Wrote(const uint8_t *bytes, size_t length, size_t consumed)
{
    const std::lock_guard<std::mutex> lock(mutex_);

    for (const Step &step : StepsOf(bytes + consumed, length - consumed))
    {
        const auto is_same = [&](const Step &other)
        {
            return other.kind == step.kind && other.id == step.id && other.verdict == step.verdict &&
                   !(other.connection < step.connection) && !(step.connection < other.connection);
        };
        const auto found = std::find_if(steps_.rbegin(), steps_.rend(), is_same);

        steps_.erase(std::next(found).base());
    }
}

void Observer::Controls(uint32_t code, const void *input, size_t length)
{
    if (code == IOCTL_NETVERDICT_SHUTDOWN_REQUEST ||
        (code == IOCTL_NETVERDICT_SET_OPTIONS && OptionsAt(input, length).PendingTimeoutMs != 0))
    {
        OthersMayDecide();
    }
}

void Observer::TookOptions(const void *input, size_t length, const Counters &now)
{
    const std::lock_guard<std::mutex> lock(mutex_);

    if ((OptionsAt(input, length).Flags & OPTION_FLAG_EXTENDED_RECORDS) == 0)
    {
        unreported_losses_.reset();
    }
    else if (!unreported_losses_)
    {
        unreported_losses_ = now.events_lost - before_.events_lost;
    }
}

void Observer::LetsOut(const uint8_t *packet, size_t length)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    Step step{Step::kLetOut, 0, 0, {}};
    uint8_t protocol;
    size_t offset;

    if (!FindPayload(packet, length, &protocol, &offset))
    {
        return;
    }
    const uint8_t *const addresses = packet + (packet[0] >> 4 == 6 ? 8 : 12);
    const size_t address_length = packet[0] >> 4 == 6 ? 16 : 4;

    step.connection = MakeConnection(protocol, addresses, addresses + address_length, address_length,
                                     sim::LoadBig16(packet + offset), sim::LoadBig16(packet + offset + 2));
    steps_.push_back(step);
}

void Observer::OthersMayDecide()
{
    const std::lock_guard<std::mutex> lock(mutex_);

    steps_.push_back({Step::kOthers, 0, 0, {}});
}

// ---- Checks

std::vector<std::string> Observer::Problems(const Counters &now)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t for_good = problems_.size();

    if (!splitter_.empty())
    {
        Report("the stream ends within a record");
    }
    if (now.client_stalls != before_.client_stalls && !DoOthersDecide())
    {
        steps_.insert(steps_.begin(), {Step::kOthers, 0, 0, {}}); // nothing says when the stall was
    }
    CheckCounters(now);
    CheckLosses(now);
    CheckVerdicts(now);
    CheckOrder(now);
    std::vector<std::string> problems = problems_;
    problems_.resize(for_good);
    return problems;
}

void Observer::CheckCounters(const Counters &now)
{
    const uint64_t queued = now.events_queued - before_.events_queued;
    const uint64_t delivered = now.events_delivered - before_.events_delivered;

    if ((is_exact_ && queued != delivered) || delivered != records_)
    {
        Report(std::to_string(queued) + " events were queued, " + std::to_string(delivered) + " delivered and " +
               std::to_string(records_) + " read");
    }
}

void Observer::CheckLosses(const Counters &now)
{
    const uint64_t lost = now.events_lost - before_.events_lost;
    const bool all_reported = unreported_losses_ && now.failed_calls == 0 && !DoOthersDecide();

    if (is_exact_ && (reported_losses_ > lost || (all_reported && reported_losses_ + *unreported_losses_ < lost)))
    {
        Report(std::to_string(reported_losses_) + " losses were reported and " + std::to_string(lost) + " counted");
    }
}

void Observer::CheckVerdicts(const Counters &now)
{
    const uint64_t applied = now.verdicts_applied - before_.verdicts_applied;
    const uint64_t unknown = now.verdicts_unknown_id - before_.verdicts_unknown_id;
    const Decided decided = CountDecided();
    const uint64_t most_decided = decided.surely.size() + decided.perhaps.size();
    const uint64_t least_open = questions_.size() - most_decided;
    const uint64_t most_open = questions_.size() - decided.surely.size();
    const bool exact = is_exact_ && now.events_lost == before_.events_lost && !DoOthersDecide();

    if (applied > most_decided + decided.updates || (exact && applied < decided.surely.size()))
    {
        Report(std::to_string(most_decided) + " questions were decided and " + std::to_string(applied) +
               " verdicts applied");
    }
    if (applied + unknown != decided.commands)
    {
        Report(std::to_string(decided.commands) + " verdicts were given, " + std::to_string(applied) + " applied and " +
               std::to_string(unknown) + " of unknown ids");
    }
    if (now.packets_held > most_open || (exact && now.packets_held < least_open))
    {
        Report(std::to_string(most_open) + " questions are open and " + std::to_string(now.packets_held) + " held");
    }
}

Observer::Decided Observer::CountDecided() const
{
    Decided decided;

    for (const Step &step : steps_)
    {
        decided.updates += step.kind == Step::kUpdate ? 1 : 0;
        decided.commands += step.kind == Step::kUpdate || step.kind == Step::kVerdict ? 1 : 0;
        if (step.kind == Step::kVerdict && questions_.count(step.id) != 0)
        {
            (step.is_guess ? decided.perhaps : decided.surely).insert(step.id);
        }
    }
    for (const uint64_t id : decided.surely)
    {
        decided.perhaps.erase(id);
    }
    return decided;
}

// The fail policy may let out the packet of a question that was lost, so each loss excuses one packet.
void Observer::CheckOrder(const Counters &now)
{
    if (is_exact_ && CountEarlyPackets() > now.events_lost - before_.events_lost)
    {
        Report("a packet was let out before its verdict, or by another's");
    }
}

uint64_t Observer::CountEarlyPackets() const
{
    Allowed allowed;
    uint64_t early = 0;

    for (const Step &step : steps_)
    {
        if (step.kind == Step::kOthers)
        {
            break;
        }
        if (step.kind == Step::kLetOut)
        {
            early += allowed.Has(step.connection) ? 0 : 1;
            continue;
        }
        const auto question = questions_.find(step.id);

        if (step.kind == Step::kUpdate || question != questions_.end())
        {
            allowed.Add(step.kind == Step::kUpdate ? step.connection : question->second, step.verdict);
        }
    }
    return early;
}

void Observer::Allowed::Add(const Connection &connection, uint8_t verdict)
{
    if (LetsThrough(verdict))
    {
        conversations.insert(Conversation(connection));
    }
    if (IsRedirect(verdict))
    {
        Connection sender{connection.protocol, connection.local, {}};

        if (verdict == VerdictRedirectNameServer)
        {
            sender.local.address = Loopback(sender.local.address.size());
        }
        redirected.insert(sender);
    }
}

// A redirected packet goes to the address that it comes from. The answers have the ends of the connection.
bool Observer::Allowed::Has(const Connection &packet) const
{
    const auto is_redirected = [&](const End &sender)
    { return redirected.count({packet.protocol, sender, {}}) != 0 && packet.local.address == packet.remote.address; };

    return conversations.count(Conversation(packet)) != 0 || is_redirected(packet.local) ||
           is_redirected(packet.remote);
}

bool Observer::DoOthersDecide() const
{
    return std::any_of(steps_.begin(), steps_.end(), [](const Step &step) { return step.kind == Step::kOthers; });
}

void Observer::Report(const std::string &problem)
{
    problems_.push_back(problem);
}

} // namespace netverdict_test
