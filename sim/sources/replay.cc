#include "sources/replay.h"

#include "net/core.h"
#include "net/stack.h"
#include "sources/link_layer.h"
#include "sources/local_hosts.h"
#include "sources/pcap_file.h"
#include "sources/replay_conversation.h"
#include "sources/wire_capture.h"

#include "machine.h"
#include "nt/clock.h"
#include "nt/scheduler.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace sim::sources
{
namespace
{

using net::Direction;
using net::Endpoint;
using net::IpPacketInfo;
using net::Tuple;

using SteadyClock = std::chrono::steady_clock;

constexpr uint64_t kMostOutstanding = 16 * 1024; // packets without an outcome
constexpr uint64_t kFramesBetweenLooks = 64;     // between two looks at the clock
constexpr std::chrono::milliseconds kProgressInterval(100);
constexpr std::chrono::milliseconds kWaitSlice(50);
constexpr uint16_t kFirstDynamicPort = 1024;

// Family, identification, source and destination.
using DatagramKey = std::tuple<uint8_t, uint32_t, net::Address, net::Address>;

constexpr size_t kMostDatagrams = 256; // one more forgets the others

struct TupleHash
{
    size_t operator()(const Tuple &tuple) const { return net::Hash(tuple); }
};

Endpoint LocalOf(const IpPacketInfo &info, Direction direction)
{
    return direction == Direction::kOutbound ? info.source_endpoint() : info.destination_endpoint();
}

Endpoint RemoteOf(const IpPacketInfo &info, Direction direction)
{
    return direction == Direction::kOutbound ? info.destination_endpoint() : info.source_endpoint();
}

bool HasFlags(const IpPacketInfo &info, uint8_t mask, uint8_t flags)
{
    return info.protocol == net::kProtocolTcp && info.has_transport() && (info.tcp_flags & mask) == flags;
}

bool IsSyn(const IpPacketInfo &info)
{
    return HasFlags(info, net::kTcpSyn | net::kTcpAck, net::kTcpSyn);
}

bool IsSynAck(const IpPacketInfo &info)
{
    return HasFlags(info, net::kTcpSyn | net::kTcpAck, net::kTcpSyn | net::kTcpAck);
}

// Guesses who began the conversation from its first packet in the capture.
Direction DirectionOfConversation(const IpPacketInfo &info, Direction direction)
{
    const bool local_known = LocalOf(info, direction).port < kFirstDynamicPort;
    const bool remote_known = RemoteOf(info, direction).port < kFirstDynamicPort;

    if (IsSyn(info))
    {
        return direction;
    }
    if (IsSynAck(info))
    {
        return Opposite(direction);
    }
    if (local_known != remote_known)
    {
        return remote_known ? Direction::kOutbound : Direction::kInbound;
    }
    return direction;
}

// Tags of a tuple whose packets are seen only at the IP packet layers.
constexpr uint8_t kFragments = 1;
constexpr uint8_t kOthers = 2;

// Makes up a process id for each local endpoint, because a capture has none.
uint64_t ProcessIdOf(const Tuple &tuple)
{
    constexpr uint64_t kProcesses = 4096;
    Tuple local = tuple;

    local.remote = {};
    local.remote_port = 0;
    return 4 * (1 + net::Hash(local) % kProcesses);
}

} // namespace

class Replay::Session
{
  public:
    Session(Machine &machine, ReplayOptions options)
        : machine_(machine), core_(machine.net().core()), options_(std::move(options)), hosts_(options_.local)
    {
        counts_->wake = [&machine] { machine.scheduler().Wake(); };
    }

    void Run(const ReplayProgressCallback &progress);
    void Stop();
    ReplaySummary summary() const;

  private:
    struct Entry
    {
        net::FlowRef flow;
        net::FlowRef stray; // for packets after the conversation's end
        std::shared_ptr<ReplayConversation> conversation;
        bool begun = false;
        bool ended = false;
        bool syn_seen = false;
        uint32_t syn_sequence = 0;
        std::weak_ptr<ReplayConversation> past; // the ended conversation; expires with its last packet
        bool fin_seen[2] = {};                  // by direction
        bool fin_acknowledged[2] = {};
        uint32_t fin_sequence[2] = {};
    };

    void Learn(PcapFile *file);
    void Play(PcapFile *file, const ReplayProgressCallback &progress);
    void PlayFrame(const Frame &frame);
    void PlayPacket(const IpPacketInfo &info, net::PacketPtr packet, Way way);
    void PlayLooped(const IpPacketInfo &info, net::PacketPtr packet);
    void PlaySentFragment(Entry *entry, net::PacketPtr packet);
    Entry *EntryOfDatagram(const IpPacketInfo &fragment, Direction direction);
    net::PacketPtr MakePacket(const LinkFrame &link, const IpPacketInfo &info);

    Entry &EntryOf(const IpPacketInfo &info, Direction direction, bool looped, bool *made);
    void Open(Entry *entry, const IpPacketInfo &info, Direction direction, const Tuple &tuple, bool looped);
    net::SocketRef SocketOf(const net::FlowSpec &owner);
    net::FlowRef OpenFlow(net::FlowOptions options, bool counted, std::shared_ptr<ReplayConversation> *conversation);
    static bool IsNewConnection(const Entry &entry, const IpPacketInfo &info);
    static Tuple KeyOf(const IpPacketInfo &info, Direction direction);
    void Submit(Entry *entry, Direction direction, net::PacketPtr packet);
    void Follow(Entry *entry, const IpPacketInfo &info, Direction direction);
    void End(Entry *entry);
    net::Flow *StrayFlow(Entry *entry, const IpPacketInfo &info, Direction direction);

    bool Await(const std::function<bool()> &done, SteadyClock::time_point until);
    void Pace(uint64_t time_ns);
    void Finish();
    bool stopped() const { return stop_.load(std::memory_order_relaxed); }

    Machine &machine_;
    net::Core &core_;
    const ReplayOptions options_;
    LocalHosts hosts_;
    std::shared_ptr<ReplayCounts> counts_ = std::make_shared<ReplayCounts>();
    std::unordered_map<Tuple, Entry, TupleHash> entries_;
    std::unordered_map<Tuple, uint64_t, TupleHash> listeners_; // by local endpoint
    std::map<DatagramKey, Tuple> datagrams_;                   // in fragments; the keys of their entries
    ReplaySummary summary_;
    uint64_t unknown_links_ = 0;
    uint16_t unknown_link_ = 0;
    uint64_t unknown_link_offset_ = 0;
    std::atomic<bool> stop_{false};
    uint64_t first_time_ns_ = 0;
    SteadyClock::time_point start_;
};

Replay::Replay(Machine &machine, ReplayOptions options)
    : session_(std::make_unique<Session>(machine, std::move(options)))
{
}

Replay::~Replay() = default;

void Replay::Run(const ReplayProgressCallback &progress)
{
    session_->Run(progress);
}

void Replay::Stop()
{
    session_->Stop();
}

ReplaySummary Replay::summary() const
{
    return session_->summary();
}

void Replay::Session::Run(const ReplayProgressCallback &progress)
{
    const Machine::Scope scope(machine_);
    PcapFile file(options_.path, &stop_);
    std::optional<WireCapture> written;

    Learn(&file);
    file.Rewind();
    if (!options_.write_out.empty())
    {
        WireCapture::RefusePlace(options_.write_out, options_.path);
        written.emplace(core_, options_.write_out);
    }
    summary_.local_addresses = hosts_.Addresses();
    summary_.local_inferred = hosts_.inferred();
    try
    {
        Play(&file, progress);
    }
    catch (...)
    {
        Finish();
        throw;
    }
    Finish();
    if (written)
    {
        written->Finish();
    }
    summary_.warning = file.truncated();
    summary_.stopped = stopped();
    if (progress != nullptr)
    {
        progress({summary_.frames, file.position(), file.size()});
    }
}

void Replay::Session::Stop()
{
    stop_.store(true);
    machine_.scheduler().Wake();
}

void Replay::Session::Learn(PcapFile *file)
{
    Frame frame;

    while (!stopped() && file->Next(&frame))
    {
        const LinkFrame link = DecodeLink(frame.link_type, frame.data, frame.captured_length, frame.original_length);
        IpPacketInfo info;

        if (link.kind == FrameKind::kUnknownLink)
        {
            ++unknown_links_;
            unknown_link_ = frame.link_type;
            unknown_link_offset_ = frame.offset;
        }
        else if (link.kind == FrameKind::kIp && net::ParseIpPacket(link.packet, link.captured_length, &info))
        {
            hosts_.Learn(link, info);
            ++summary_.ip_packets;
        }
    }
    if (unknown_links_ != 0 && summary_.ip_packets == 0)
    {
        throw PcapError(options_.path, unknown_link_offset_,
                        "frames of link type " + std::to_string(unknown_link_) + " cannot be read",
                        "capture on an Ethernet or raw IP interface");
    }
    summary_.ip_packets = 0;
    hosts_.Decide();
}

void Replay::Session::Play(PcapFile *file, const ReplayProgressCallback &progress)
{
    SteadyClock::time_point reported = SteadyClock::now();
    Frame frame;

    start_ = reported;
    while (!stopped() && file->Next(&frame))
    {
        Pace(frame.time_ns);
        ++summary_.frames;
        summary_.bytes += frame.captured_length;
        PlayFrame(frame);
        if (counts_->outstanding_packets.load(std::memory_order_relaxed) >= kMostOutstanding)
        {
            Await([this] { return counts_->outstanding_packets.load() < kMostOutstanding / 2; },
                  SteadyClock::time_point::max());
        }
        if (progress != nullptr && summary_.frames % kFramesBetweenLooks == 0 &&
            SteadyClock::now() - reported >= kProgressInterval)
        {
            reported = SteadyClock::now();
            progress({summary_.frames, file->position(), file->size()});
        }
    }
}

void Replay::Session::PlayFrame(const Frame &frame)
{
    const LinkFrame link = DecodeLink(frame.link_type, frame.data, frame.captured_length, frame.original_length);
    IpPacketInfo info;

    switch (link.kind)
    {
    case FrameKind::kOther:
    case FrameKind::kUnknownLink:
        ++summary_.non_ip_frames;
        return;
    case FrameKind::kMalformed:
        ++summary_.malformed_frames;
        return;
    case FrameKind::kIp:
        break;
    }
    if (!net::ParseIpPacket(link.packet, link.captured_length, &info) || info.length > link.original_length ||
        info.length > net::kLongestPacket + net::kIpv6HeaderSize)
    {
        ++summary_.malformed_frames;
        return;
    }

    const Way way = hosts_.WayOf(link, info);

    if (way == Way::kForeign)
    {
        ++summary_.foreign_frames;
        return;
    }

    net::PacketPtr packet = MakePacket(link, info);

    if (packet != nullptr)
    {
        PlayPacket(info, std::move(packet), way);
    }
}

// The bytes that the capture has cut off are zero.
net::PacketPtr Replay::Session::MakePacket(const LinkFrame &link, const IpPacketInfo &info)
{
    const size_t there = std::min<size_t>(link.captured_length, info.length);
    net::PacketPtr packet = core_.NewPacket(info.length);

    if (packet == nullptr)
    {
        return nullptr;
    }
    std::copy_n(link.packet, there, packet->bytes());
    std::fill_n(packet->bytes() + there, info.length - there, uint8_t{0});
    return packet->Parse() ? std::move(packet) : nullptr;
}

void Replay::Session::PlayPacket(const IpPacketInfo &info, net::PacketPtr packet, Way way)
{
    const bool conversation = !info.fragment && info.has_transport() &&
                              (info.protocol == net::kProtocolTcp || info.protocol == net::kProtocolUdp);

    ++summary_.ip_packets;
    summary_.fragments += info.fragment ? 1 : 0;
    summary_.other_packets += conversation ? 0 : 1;
    counts_->outstanding_packets.fetch_add(1);
    if (way == Way::kLooped)
    {
        PlayLooped(info, std::move(packet));
        return;
    }

    const Direction direction = way == Way::kOutbound ? Direction::kOutbound : Direction::kInbound;
    Entry *datagram = info.fragment ? EntryOfDatagram(info, direction) : nullptr;
    bool made = false;

    if (datagram != nullptr && datagram->flow)
    {
        direction == Direction::kOutbound ? PlaySentFragment(datagram, std::move(packet))
                                          : Submit(datagram, direction, std::move(packet));
        return;
    }

    Entry &entry = EntryOf(info, direction, false, &made);

    if (made && conversation)
    {
        ++(info.protocol == net::kProtocolTcp ? summary_.tcp_conversations : summary_.udp_conversations);
    }
    Submit(&entry, direction, std::move(packet));
    Follow(&entry, info, direction);
}

// Opens the conversation of a datagram that comes in fragments: its first fragment has the ports.
// Returns nothing for a fragment whose conversation is not known.
Replay::Session::Entry *Replay::Session::EntryOfDatagram(const IpPacketInfo &fragment, Direction direction)
{
    const DatagramKey key = {fragment.family, fragment.fragment_identification, fragment.source, fragment.destination};
    IpPacketInfo whole = fragment;
    bool made = false;

    if (fragment.protocol != net::kProtocolUdp)
    {
        return nullptr;
    }
    if (!fragment.first_fragment || !fragment.has_transport())
    {
        const auto found = datagrams_.find(key);

        return found == datagrams_.end() ? nullptr : &entries_[found->second];
    }
    whole.fragment = false;
    whole.first_fragment = false;
    whole.more_fragments = false;

    Entry &entry = EntryOf(whole, direction, false, &made);

    summary_.udp_conversations += made ? 1 : 0;
    if (datagrams_.size() == kMostDatagrams)
    {
        datagrams_.clear();
    }
    datagrams_[key] = KeyOf(whole, direction);
    return &entry;
}

// A program sends a whole datagram: ALE and DATAGRAM_DATA do not see its fragments.
void Replay::Session::PlaySentFragment(Entry *entry, net::PacketPtr packet)
{
    const net::FlowRef flow = entry->flow.Share();
    net::PacketPtr whole = core_.Reassemble(*packet);
    net::Job *fragment = core_.NewJob();

    entry->begun = true;
    if (packet->info().first_fragment && flow->identity().direction == Direction::kOutbound)
    {
        net::Job *authorization = core_.NewJob();

        authorization->kind = net::JobKind::kAuthorize;
        authorization->authorize = true;
        flow->Submit(authorization);
    }
    fragment->offer_always = true;
    fragment->packet = std::move(packet);
    flow->Submit(fragment);
    if (whole != nullptr)
    {
        net::Job *datagram = core_.NewJob();

        datagram->kind = net::JobKind::kDatagram;
        datagram->packet = std::move(whole);
        flow->Submit(datagram);
    }
}

// A looped packet leaves by one conversation and arrives by another.
void Replay::Session::PlayLooped(const IpPacketInfo &info, net::PacketPtr packet)
{
    const bool conversation = info.has_transport() && !info.fragment;
    bool near_made = false;
    bool far_made = false;
    Entry &far_end = EntryOf(info, Direction::kInbound, true, &far_made);
    Entry &near_end = EntryOf(info, Direction::kOutbound, true, &near_made);

    if ((near_made || far_made) && near_end.flow && far_end.flow)
    {
        near_end.conversation->SetFarEnd(far_end.flow.Share());
        far_end.conversation->SetFarEnd(near_end.flow.Share());
    }
    if (near_made && conversation && info.protocol == net::kProtocolTcp)
    {
        ++summary_.tcp_conversations;
    }
    else if (near_made && conversation && info.protocol == net::kProtocolUdp)
    {
        ++summary_.udp_conversations;
    }
    far_end.begun = true;
    if (far_end.flow)
    {
        Submit(&near_end, Direction::kOutbound, std::move(packet));
    }
    else
    {
        counts_->outstanding_packets.fetch_sub(1);
    }
}

Tuple Replay::Session::KeyOf(const IpPacketInfo &info, Direction direction)
{
    Endpoint local = LocalOf(info, direction);
    Endpoint remote = RemoteOf(info, direction);
    const bool conversation = !info.fragment && info.has_transport() &&
                              (info.protocol == net::kProtocolTcp || info.protocol == net::kProtocolUdp);

    local.port = 0;
    remote.port = 0;

    Tuple key = info.has_conversation() ? net::TupleOf(info, direction) : net::MakeTuple(info.protocol, local, remote);

    key.tags[0] = conversation ? 1 : 0;
    key.tags[1] = info.fragment ? kFragments : info.has_conversation() ? 0 : kOthers;
    return key;
}

Replay::Session::Entry &Replay::Session::EntryOf(const IpPacketInfo &info, Direction direction, bool looped, bool *made)
{
    const Tuple key = KeyOf(info, direction);
    Entry &entry = entries_[key];

    if (IsNewConnection(entry, info))
    {
        End(&entry);
        entry = Entry();
    }
    *made = !entry.begun && !entry.flow && !entry.ended;
    if (*made)
    {
        Open(&entry, info, direction, key, looped);
    }
    return entry;
}

bool Replay::Session::IsNewConnection(const Entry &entry, const IpPacketInfo &info)
{
    if (!IsSyn(info) || (!entry.flow && !entry.ended))
    {
        return false;
    }
    return entry.ended || !entry.syn_seen || entry.syn_sequence != info.sequence;
}

void Replay::Session::Open(Entry *entry, const IpPacketInfo &info, Direction direction, const Tuple &tuple, bool looped)
{
    const bool conversation = tuple.tags[0] != 0;
    net::FlowOptions options;
    net::FlowSpec owner;

    options.direction = conversation ? DirectionOfConversation(info, direction) : direction;
    options.protocol = info.protocol;
    options.loopback = looped;
    options.raw = !info.has_conversation();
    options.local = LocalOf(info, direction);
    options.remote = RemoteOf(info, direction);
    if (net::IsIcmp(info.protocol))
    {
        options.local.port = info.source_port;
        options.remote.port = info.destination_port;
        options.echo_identifier = info.echo_identifier;
        options.echo_sequence = info.echo_sequence;
    }

    owner.direction = options.direction;
    owner.protocol = info.protocol;
    owner.process_id = ProcessIdOf(tuple);
    owner.loopback = looped;
    owner.local = options.local;
    if (net::IsMulticast(owner.local.family, owner.local.address) ||
        net::IsBroadcast(owner.local.family, owner.local.address))
    {
        owner.local.address = {}; // a socket cannot be bound to a group address
    }
    if (!options.raw)
    {
        options.socket = SocketOf(owner);
    }
    entry->syn_seen = IsSyn(info);
    entry->syn_sequence = info.sequence;

    const bool late = options.direction == Direction::kOutbound && direction == Direction::kInbound && conversation;

    entry->flow = OpenFlow(std::move(options), conversation, &entry->conversation);
    if (late && entry->flow)
    {
        // The application connected before the capture began.
        net::Job *job = core_.NewJob();

        job->kind = net::JobKind::kAuthorize;
        job->authorize = true;
        entry->flow->Submit(job);
    }
}

// Listeners and UDP sockets live until the end of the replay.
net::SocketRef Replay::Session::SocketOf(const net::FlowSpec &owner)
{
    if (owner.protocol != net::kProtocolUdp &&
        (owner.protocol != net::kProtocolTcp || owner.direction == Direction::kOutbound))
    {
        return core_.OpenSocket(owner, owner.local);
    }

    net::SocketRef socket = core_.OpenSharedSocket(owner, owner.protocol, owner.local);
    const Tuple key = net::MakeTuple(owner.protocol, owner.local, {owner.local.family, {}, 0});

    if (socket && listeners_.count(key) == 0)
    {
        listeners_[key] = core_.AddListener(socket.Share());
    }
    return socket;
}

net::FlowRef Replay::Session::OpenFlow(net::FlowOptions options, bool counted,
                                       std::shared_ptr<ReplayConversation> *conversation)
{
    *conversation = std::make_shared<ReplayConversation>(core_, counts_, options.local.family, counted);
    options.conversation = *conversation;

    net::FlowRef flow = core_.OpenFlow(std::move(options));

    if (flow)
    {
        counts_->open_flows.fetch_add(1);
    }
    return flow;
}

void Replay::Session::Submit(Entry *entry, Direction direction, net::PacketPtr packet)
{
    const IpPacketInfo &info = packet->info();
    const bool first = !std::exchange(entry->begun, true);
    net::Flow *flow = entry->ended ? StrayFlow(entry, info, direction) : entry->flow.get();

    if (flow == nullptr)
    {
        counts_->outstanding_packets.fetch_sub(1);
        return;
    }

    const bool same_way = flow->opened() == direction;
    net::Job *job = core_.NewJob();

    job->direction = direction;
    job->offer_always = true;
    job->authorize = first || (same_way && (info.protocol != net::kProtocolTcp || IsSyn(info)));
    // An outbound conversation whose first captured packet came in is authorized by a job of its own.
    if (flow->opened() == Direction::kOutbound && direction == Direction::kInbound)
    {
        job->authorize = false;
    }
    job->packet = std::move(packet);
    flow->Submit(job);
}

// Packets after the end are classified at the IP packet layers alone, and after the packets of the conversation.
net::Flow *Replay::Session::StrayFlow(Entry *entry, const IpPacketInfo &info, Direction direction)
{
    if (!entry->stray)
    {
        net::FlowOptions options;
        std::shared_ptr<ReplayConversation> conversation;

        if (!Await([entry] { return entry->past.expired(); }, SteadyClock::time_point::max()))
        {
            return nullptr;
        }
        options.direction = direction;
        options.protocol = info.protocol;
        options.raw = true;
        options.local = LocalOf(info, direction);
        options.remote = RemoteOf(info, direction);
        entry->stray = OpenFlow(std::move(options), false, &conversation);
    }
    return entry->stray.get();
}

// Ends a connection at a RST, or when both FINs are acknowledged.
void Replay::Session::Follow(Entry *entry, const IpPacketInfo &info, Direction direction)
{
    if (info.protocol != net::kProtocolTcp || !info.has_transport() || info.fragment || entry->ended)
    {
        return;
    }

    const size_t own = static_cast<size_t>(direction);
    const size_t other = 1 - own;

    if ((info.tcp_flags & net::kTcpRst) != 0)
    {
        End(entry);
        return;
    }
    if ((info.tcp_flags & net::kTcpFin) != 0)
    {
        entry->fin_seen[own] = true;
        entry->fin_sequence[own] = info.sequence + info.payload_length;
    }
    if (entry->fin_seen[other] && (info.tcp_flags & net::kTcpAck) != 0 &&
        info.acknowledgment == entry->fin_sequence[other] + 1)
    {
        entry->fin_acknowledged[other] = true;
    }
    if (entry->fin_acknowledged[0] && entry->fin_acknowledged[1])
    {
        End(entry);
    }
}

void Replay::Session::End(Entry *entry)
{
    entry->ended = true;
    if (entry->flow)
    {
        entry->flow->CloseWhenDone();
        entry->flow = net::FlowRef();
    }
    if (entry->stray)
    {
        entry->stray->CloseWhenDone();
        entry->stray = net::FlowRef();
    }
    entry->past = entry->conversation;
    entry->conversation.reset();
}

void Replay::Session::Pace(uint64_t time_ns)
{
    if (options_.speed <= 0 || machine_.clock().is_virtual() || time_ns == 0)
    {
        return;
    }
    if (first_time_ns_ == 0)
    {
        first_time_ns_ = time_ns;
    }
    if (time_ns <= first_time_ns_)
    {
        return;
    }

    const double nanoseconds = static_cast<double>(time_ns - first_time_ns_) / options_.speed;

    Await([] { return false; }, start_ + std::chrono::nanoseconds(static_cast<int64_t>(nanoseconds)));
}

// Waits for `done`, for the time, or for Stop. Returns true if it is done.
bool Replay::Session::Await(const std::function<bool()> &done, SteadyClock::time_point until)
{
    const auto ready = [&] { return done() || stopped(); };
    bool is_ready = false;

    counts_->awaited.store(true);
    while (!(is_ready = ready()))
    {
        const SteadyClock::time_point now = SteadyClock::now();

        if (now >= until)
        {
            break;
        }
        machine_.scheduler().WaitUntil(ready, std::min<std::chrono::nanoseconds>(until - now, kWaitSlice));
    }
    counts_->awaited.store(false);
    return is_ready && done();
}

// Waits until every packet has its outcome and every conversation its end.
// A stopped replay does not wait for packets that are held.
void Replay::Session::Finish()
{
    const bool done =
        Await([this] { return counts_->outstanding_packets.load() == 0; }, SteadyClock::time_point::max());

    for (auto &entry : entries_)
    {
        if (!done && entry.second.flow)
        {
            entry.second.flow->Close();
            entry.second.flow = net::FlowRef();
        }
        if (!done && entry.second.stray)
        {
            entry.second.stray->Close();
            entry.second.stray = net::FlowRef();
        }
        End(&entry.second);
    }
    if (done)
    {
        Await([this] { return counts_->open_flows.load() == 0; }, SteadyClock::time_point::max());
    }
    for (const auto &listener : listeners_)
    {
        core_.CloseListener(listener.second);
    }
    listeners_.clear();
    entries_.clear();
}

ReplaySummary Replay::Session::summary() const
{
    ReplaySummary summary = summary_;
    const auto conversations = [this](net::OutcomeKind kind)
    { return counts_->conversations[static_cast<size_t>(kind)].load(); };
    const auto packets = [this](net::OutcomeKind kind) { return counts_->packets[static_cast<size_t>(kind)].load(); };

    for (size_t family = 0; family < 2; ++family)
    {
        summary.tcp_sent[family] = counts_->tcp_sent[family].load();
        summary.tcp_received[family] = counts_->tcp_received[family].load();
        summary.udp_sent[family] = counts_->udp_sent[family].load();
        summary.udp_received[family] = counts_->udp_received[family].load();
    }
    summary.stream_gaps = counts_->gaps.load();
    summary.stream_gap_bytes = counts_->gap_bytes.load();
    summary.conversations_permitted = conversations(net::OutcomeKind::kPermitted);
    summary.conversations_blocked = conversations(net::OutcomeKind::kBlocked);
    summary.conversations_dropped = conversations(net::OutcomeKind::kDropped);
    summary.conversations_pending = conversations(net::OutcomeKind::kPendingTimeout);
    summary.conversations_redirected = conversations(net::OutcomeKind::kRedirected);
    summary.packets_permitted = packets(net::OutcomeKind::kPermitted);
    summary.packets_blocked = packets(net::OutcomeKind::kBlocked);
    summary.packets_dropped = packets(net::OutcomeKind::kDropped);
    summary.packets_pending = packets(net::OutcomeKind::kPendingTimeout);
    summary.packets_redirected = packets(net::OutcomeKind::kRedirected);
    summary.packets_withheld = counts_->packets_withheld.load();
    return summary;
}

} // namespace sim::sources
