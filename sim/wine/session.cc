#include "session.h"

#include <ntddk.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "nt/pool.h"
#include "sources/flow_load.h"
#include "sources/replay.h"
#include "wfp/engine.h"
#include "wfp/hindrance.h"

namespace sim::wine
{

namespace
{

// A load reports its latencies in one event, so their number is limited.
constexpr size_t kMostLatencies = (CONTROL_EVENT_BYTES - 1024) / sizeof(float);

net::FlowSpec GetFlow(Reader &request)
{
    net::FlowSpec flow;
    flow.protocol = request.Get<uint8_t>();
    const auto family = request.Get<uint8_t>();
    flow.loopback = request.Get<uint8_t>() != 0;
    flow.process_id = request.Get<uint64_t>();
    flow.local = request.GetEndpoint(family);
    flow.remote = request.GetEndpoint(family);
    flow.local.link = request.Get<uint8_t>() % net::kLinks;

    const bool has_icmp = request.Get<uint8_t>() != 0;
    const auto type = request.Get<uint8_t>();
    const auto code = request.Get<uint8_t>();

    if (has_icmp)
    {
        flow.icmp = net::IcmpKind{type, code};
    }
    for (auto groups = request.Get<uint8_t>(); groups != 0; --groups)
    {
        flow.groups.push_back(request.GetEndpoint(family));
    }
    flow.process_path.resize(request.Get<uint16_t>() / sizeof(char16_t));
    const size_t path_bytes = flow.process_path.size() * sizeof(char16_t);
    std::memcpy(flow.process_path.data(), request.Take(path_bytes), path_bytes);
    flow.payload = request.Rest();
    return flow;
}

void PutPackets(Writer &answer, const net::PacketCounters &packets)
{
    answer.Put(packets.offered)
        .Put(packets.permitted)
        .Put(packets.blocked)
        .Put(packets.dropped)
        .Put(packets.held_now)
        .Put(packets.held_total)
        .Put(packets.injected);
}

Writer EncodeSummary(const sources::ReplaySummary &summary)
{
    Writer body;
    body.Put(summary.frames)
        .Put(summary.bytes)
        .Put(summary.ip_packets)
        .Put(summary.fragments)
        .Put(summary.non_ip_frames)
        .Put(summary.foreign_frames)
        .Put(summary.malformed_frames)
        .Put(summary.tcp_conversations)
        .Put(summary.udp_conversations)
        .Put(summary.other_packets)
        .PutBytes(summary.warning.data(), summary.warning.size());
    return body;
}

} // namespace

std::vector<uint8_t> Session::Execute(const void *owner, const uint8_t *request, size_t length)
{
    Machine::Scope scope(machine_);
    Reader reader(request, length);
    Writer answer;
    NTSTATUS status;

    try
    {
        status = Carry(owner, reader, answer);
    }
    catch (const RequestTooShort &)
    {
        status = STATUS_INVALID_PARAMETER;
    }
    Writer response;
    response.Put(status).PutBytes(answer.bytes().data(), answer.bytes().size());
    return response.bytes();
}

void Session::HandleClosed(const void *owner)
{
    if (owner == owner_)
    {
        Machine::Scope scope(machine_);
        End();
    }
}

NTSTATUS Session::Carry(const void *owner, Reader &request, Writer &answer)
{
    net::Stack &network = machine_.net();

    switch (request.Get<uint8_t>())
    {
    case kControlBegin:
        Begin(owner);
        return STATUS_SUCCESS;
    case kControlEnd:
        End();
        return STATUS_SUCCESS;
    case kControlConnect:
    {
        const auto tag = request.Get<uint64_t>();
        answer.Put(network.Connect(GetFlow(request), OutcomeOf(tag)));
        return STATUS_SUCCESS;
    }
    case kControlAccept:
    {
        const auto tag = request.Get<uint64_t>();
        answer.Put(network.Accept(GetFlow(request), OutcomeOf(tag)));
        return STATUS_SUCCESS;
    }
    case kControlListen:
        answer.Put(network.Listen(GetFlow(request)));
        return STATUS_SUCCESS;
    case kControlCloseListener:
        network.CloseListener(request.Get<uint64_t>());
        return STATUS_SUCCESS;
    case kControlSend:
        Send(request, net::Direction::kOutbound);
        return STATUS_SUCCESS;
    case kControlReceive:
        Send(request, net::Direction::kInbound);
        return STATUS_SUCCESS;
    case kControlCloseFlow:
        network.Close(request.Get<uint64_t>());
        return STATUS_SUCCESS;
    case kControlPacket:
    {
        const auto tag = request.Get<uint64_t>();
        const auto way = static_cast<net::PacketWay>(request.Get<uint8_t>());
        const auto link = static_cast<uint8_t>(request.Get<uint8_t>() % net::kLinks);
        const std::vector<uint8_t> packet = request.Rest();
        network.Packet(way, packet.data(), packet.size(), OutcomeOf(tag), link);
        return STATUS_SUCCESS;
    }
    case kControlReauthorize:
        network.Reauthorize();
        return STATUS_SUCCESS;
    case kControlAcceptSecured:
        network.AcceptSecured();
        return STATUS_SUCCESS;
    case kControlWire:
        SetWire(request.Get<uint64_t>());
        return STATUS_SUCCESS;
    case kControlCounters:
        WriteCounters(answer);
        return STATUS_SUCCESS;
    case kControlEngine:
        WriteEngine(answer);
        return STATUS_SUCCESS;
    case kControlLoad:
        StartLoad(request);
        return STATUS_SUCCESS;
    case kControlReplay:
        StartReplay(request);
        return STATUS_SUCCESS;
    case kControlStopReplay:
    {
        const auto found = sources_.find(request.Get<uint64_t>());
        if (found != sources_.end())
        {
            found->second.stop();
        }
        return STATUS_SUCCESS;
    }
    case kControlHinder:
    {
        const auto hindrance = static_cast<wfp::Hindrance>(request.Get<uint8_t>());

        return wfp::Hinder(machine_.wfp(), hindrance, request.Get<NTSTATUS>()) ? STATUS_SUCCESS
                                                                               : STATUS_INVALID_PARAMETER;
    }
    default:
        return STATUS_INVALID_DEVICE_REQUEST;
    }
}

void Session::Begin(const void *owner)
{
    End();
    machine_.RestartNetwork();
    owner_ = owner;
    events_.Begin();
}

void Session::End()
{
    machine_.net().SetWire({});
    for (auto &[tag, source] : sources_)
    {
        source.stop();
    }
    for (auto &[tag, source] : sources_)
    {
        source.thread.join();
    }
    sources_.clear();
    owner_ = nullptr;
    events_.End();
}

net::OutcomeCallback Session::OutcomeOf(uint64_t tag)
{
    if (tag == 0)
    {
        return {};
    }
    return [this, tag](const net::Outcome &outcome)
    {
        Writer body;
        body.Put(static_cast<uint8_t>(outcome.kind)).PutEndpoint(outcome.redirected_to);
        events_.Push(kControlOutcome, tag, body);
    };
}

void Session::Send(Reader &request, net::Direction direction)
{
    const auto tag = request.Get<uint64_t>();
    const auto flow = request.Get<uint64_t>();
    const std::vector<uint8_t> bytes = request.Rest();

    if (direction == net::Direction::kOutbound)
    {
        machine_.net().Send(flow, bytes.data(), bytes.size(), OutcomeOf(tag));
    }
    else
    {
        machine_.net().Receive(flow, bytes.data(), bytes.size(), OutcomeOf(tag));
    }
}

void Session::SetWire(uint64_t tag)
{
    if (tag == 0)
    {
        machine_.net().SetWire({});
        return;
    }
    machine_.net().SetWire(
        [this, tag](net::Direction direction, const uint8_t *packet, size_t length)
        {
            Writer body;
            body.Put(static_cast<uint8_t>(direction)).PutBytes(packet, length);
            events_.Push(kControlOnWire, tag, body);
        });
}

void Session::WriteCounters(Writer &answer) const
{
    const net::StackCounters counters = machine_.net().counters();

    PutPackets(answer, counters.outbound);
    PutPackets(answer, counters.inbound);
    answer.Put(counters.flows_now)
        .Put(counters.flows_total)
        .Put(counters.stream_bytes_sent)
        .Put(counters.stream_bytes_received)
        .Put(counters.datagram_bytes_sent)
        .Put(counters.datagram_bytes_received)
        .Put(counters.pending_timeouts);
}

void Session::WriteEngine(Writer &answer) const
{
    const wfp::Engine &engine = machine_.wfp();
    const wfp::EngineCounters counters = engine.counters();

    answer.Put(uint64_t{engine.filtered_layers()})
        .Put(counters.pended_now)
        .Put(counters.injections_now)
        .Put(counters.net_buffer_lists_now)
        .Put(static_cast<uint64_t>(machine_.pool().bytes()));
}

void Session::StartLoad(Reader &request)
{
    sources::FlowLoadOptions options;
    const auto tag = request.Get<uint64_t>();
    options.connections = request.Get<uint64_t>();
    options.in_flight = request.Get<uint32_t>();
    options.protocol = request.Get<uint8_t>();
    options.ip_version = request.Get<uint8_t>();
    options.packets_per_connection = request.Get<uint32_t>();
    options.payload_length = request.Get<uint32_t>();
    auto load = std::make_shared<sources::FlowLoad>(machine_, options);

    Start(
        tag, [load] { load->Stop(); },
        [this, tag, load]
        {
            const sources::FlowLoadResult result = load->Run();
            Writer body;
            body.Put(result.seconds).Put(result.permitted).Put(result.blocked).Put(result.dropped);
            body.PutBytes(result.latencies.data(), std::min(result.latencies.size(), kMostLatencies) * sizeof(float));
            events_.Push(kControlLoaded, tag, body);
        });
}

void Session::StartReplay(Reader &request)
{
    sources::ReplayOptions options;
    const auto tag = request.Get<uint64_t>();
    options.speed = request.Get<double>();
    const auto prefixes = request.Get<uint16_t>();
    for (uint16_t index = 0; index < prefixes; ++index)
    {
        sources::Prefix prefix;
        prefix.family = request.Get<uint8_t>();
        std::memcpy(prefix.address.data(), request.Take(prefix.address.size()), prefix.address.size());
        prefix.length = request.Get<uint8_t>();
        options.local.push_back(prefix);
    }
    const std::vector<uint8_t> path = request.Rest();
    options.path.assign(path.begin(), path.end());
    auto replay = std::make_shared<sources::Replay>(machine_, std::move(options));

    Start(
        tag, [replay] { replay->Stop(); },
        [this, tag, replay]
        {
            try
            {
                replay->Run(
                    [this, tag](const sources::ReplayProgress &reached)
                    {
                        Writer body;
                        body.Put(reached.frames).Put(reached.bytes).Put(reached.total_bytes);
                        events_.Push(kControlProgress, tag, body);
                    });
                events_.Push(kControlReplayed, tag, EncodeSummary(replay->summary()));
            }
            catch (const std::exception &error)
            {
                const std::string message = error.what();
                Writer body;
                body.PutBytes(message.data(), message.size());
                events_.Push(kControlFailed, tag, body);
            }
        });
}

void Session::Start(uint64_t tag, std::function<void()> stop, std::function<void()> run)
{
    Source &source = sources_[tag];

    source.stop = std::move(stop);
    source.thread = std::thread(
        [this, run = std::move(run)]
        {
            Machine::Scope scope(machine_);
            run();
        });
}

} // namespace sim::wine
