#include "network_values.h"

#include <algorithm>

namespace netverdict
{

namespace
{

void SetNumber(Napi::Object object, const char *name, uint64_t value)
{
    object.Set(name, Napi::Number::New(object.Env(), static_cast<double>(value)));
}

sim::net::Endpoint ToEndpoint(const Napi::Value &address, const Napi::Value &port)
{
    const std::vector<uint8_t> bytes = ToBytes(address);
    sim::net::Endpoint endpoint;
    endpoint.family = bytes.size() == 4 ? 4 : 6;
    std::copy_n(bytes.begin(), std::min(bytes.size(), endpoint.address.size()), endpoint.address.begin());
    endpoint.port = static_cast<uint16_t>(port.As<Napi::Number>().Uint32Value());
    return endpoint;
}

Napi::Object FromPacketCounters(Napi::Env env, const sim::net::PacketCounters &counters)
{
    Napi::Object object = Napi::Object::New(env);
    SetNumber(object, "offered", counters.offered);
    SetNumber(object, "permitted", counters.permitted);
    SetNumber(object, "blocked", counters.blocked);
    SetNumber(object, "dropped", counters.dropped);
    SetNumber(object, "heldNow", counters.held_now);
    SetNumber(object, "heldTotal", counters.held_total);
    SetNumber(object, "injected", counters.injected);
    return object;
}

const char *NameOf(sim::net::OutcomeKind kind)
{
    switch (kind)
    {
    case sim::net::OutcomeKind::kPermitted:
        return "permitted";
    case sim::net::OutcomeKind::kBlocked:
        return "blocked";
    case sim::net::OutcomeKind::kDropped:
        return "dropped";
    case sim::net::OutcomeKind::kPendingTimeout:
        return "pending-timeout";
    case sim::net::OutcomeKind::kRedirected:
        return "redirected";
    }
    return "dropped";
}

} // namespace

sim::net::PacketWay ToPacketWay(const Napi::Value &way)
{
    return static_cast<sim::net::PacketWay>(way.As<Napi::Number>().Uint32Value());
}

uint8_t ToLink(const Napi::Value &link)
{
    return link.IsNumber() ? static_cast<uint8_t>(link.As<Napi::Number>().Uint32Value()) : sim::net::kEthernetLink;
}

sim::net::FlowSpec ToFlowSpec(const Napi::Object &spec)
{
    sim::net::FlowSpec flow;
    flow.protocol = static_cast<uint8_t>(spec.Get("protocol").As<Napi::Number>().Uint32Value());
    flow.process_id = ToUint64(spec.Get("processId"));
    flow.process_path = spec.Get("processPath").As<Napi::String>().Utf16Value();
    flow.local = ToEndpoint(spec.Get("localAddress"), spec.Get("localPort"));
    flow.remote = ToEndpoint(spec.Get("remoteAddress"), spec.Get("remotePort"));
    const Napi::Value payload = spec.Get("payload");
    if (payload.IsTypedArray())
    {
        flow.payload = ToBytes(payload);
    }
    flow.loopback = spec.Get("loopback").ToBoolean();
    flow.local.link = ToLink(spec.Get("link"));
    const Napi::Value icmp = spec.Get("icmp");
    if (icmp.IsObject())
    {
        const auto message = icmp.As<Napi::Object>();
        const auto number = [&message](const char *name)
        { return static_cast<uint8_t>(message.Get(name).As<Napi::Number>().Uint32Value()); };
        flow.icmp = sim::net::IcmpKind{number("type"), number("code")};
    }
    const Napi::Value groups = spec.Get("groups");
    for (uint32_t index = 0; groups.IsArray() && index < groups.As<Napi::Array>().Length(); ++index)
    {
        flow.groups.push_back(ToEndpoint(groups.As<Napi::Array>().Get(index), Napi::Number::New(spec.Env(), 0)));
    }
    return flow;
}

sim::sources::ReplayOptions ToReplayOptions(const Napi::Object &options)
{
    sim::sources::ReplayOptions replay;
    replay.path = options.Get("path").As<Napi::String>().Utf8Value();
    replay.speed = options.Get("speed").As<Napi::Number>().DoubleValue();
    replay.write_out = options.Get("writeOut").As<Napi::String>().Utf8Value();
    const auto prefixes = options.Get("local").As<Napi::Array>();
    for (uint32_t index = 0; index < prefixes.Length(); ++index)
    {
        const auto given = prefixes.Get(index).As<Napi::Object>();
        const sim::net::Endpoint address = ToEndpoint(given.Get("address"), Napi::Number::New(options.Env(), 0));
        sim::sources::Prefix prefix;
        prefix.family = address.family;
        prefix.address = address.address;
        prefix.length = static_cast<uint8_t>(given.Get("prefix").As<Napi::Number>().Uint32Value());
        replay.local.push_back(prefix);
    }
    return replay;
}

sim::sources::FlowLoadOptions ToFlowLoadOptions(const Napi::Object &options)
{
    const auto number = [&options](const char *name) { return options.Get(name).As<Napi::Number>().Uint32Value(); };
    sim::sources::FlowLoadOptions load;
    load.connections = number("connections");
    load.in_flight = number("inFlight");
    load.protocol = static_cast<uint8_t>(number("protocol"));
    load.ip_version = static_cast<uint8_t>(number("ipVersion"));
    load.packets_per_connection = number("packetsPerConnection");
    load.payload_length = number("payloadLength");
    return load;
}

Napi::Object FromOutcome(Napi::Env env, const sim::net::Outcome &outcome)
{
    Napi::Object object = Napi::Object::New(env);
    object.Set("kind", NameOf(outcome.kind));
    if (outcome.kind == sim::net::OutcomeKind::kRedirected)
    {
        const sim::net::Endpoint &target = outcome.redirected_to;
        object.Set("address", FromBytes(env, target.address.data(), target.family == 4 ? 4 : 16));
        SetNumber(object, "port", target.port);
    }
    return object;
}

Napi::Object FromCounters(Napi::Env env, const sim::net::StackCounters &counters)
{
    Napi::Object object = Napi::Object::New(env);
    object.Set("outbound", FromPacketCounters(env, counters.outbound));
    object.Set("inbound", FromPacketCounters(env, counters.inbound));
    SetNumber(object, "flowsNow", counters.flows_now);
    SetNumber(object, "flowsTotal", counters.flows_total);
    SetNumber(object, "streamBytesSent", counters.stream_bytes_sent);
    SetNumber(object, "streamBytesReceived", counters.stream_bytes_received);
    SetNumber(object, "datagramBytesSent", counters.datagram_bytes_sent);
    SetNumber(object, "datagramBytesReceived", counters.datagram_bytes_received);
    SetNumber(object, "pendingTimeouts", counters.pending_timeouts);
    return object;
}

Napi::Object FromProgress(Napi::Env env, const sim::sources::ReplayProgress &progress)
{
    Napi::Object object = Napi::Object::New(env);
    SetNumber(object, "frames", progress.frames);
    SetNumber(object, "bytes", progress.bytes);
    SetNumber(object, "totalBytes", progress.total_bytes);
    return object;
}

Napi::Object FromReplaySummary(Napi::Env env, const sim::sources::ReplaySummary &summary)
{
    Napi::Object object = Napi::Object::New(env);
    SetNumber(object, "frames", summary.frames);
    SetNumber(object, "bytes", summary.bytes);
    SetNumber(object, "ipPackets", summary.ip_packets);
    SetNumber(object, "fragments", summary.fragments);
    SetNumber(object, "nonIpFrames", summary.non_ip_frames);
    SetNumber(object, "foreignFrames", summary.foreign_frames);
    SetNumber(object, "malformedFrames", summary.malformed_frames);
    SetNumber(object, "tcpConversations", summary.tcp_conversations);
    SetNumber(object, "udpConversations", summary.udp_conversations);
    SetNumber(object, "otherPackets", summary.other_packets);
    object.Set("warning", summary.warning);
    return object;
}

Napi::Object FromLoadResult(Napi::Env env, const sim::sources::FlowLoadResult &result)
{
    Napi::Object object = Napi::Object::New(env);
    object.Set("seconds", result.seconds);
    SetNumber(object, "permitted", result.permitted);
    SetNumber(object, "blocked", result.blocked);
    SetNumber(object, "dropped", result.dropped);
    Napi::Float32Array latencies = Napi::Float32Array::New(env, result.latencies.size());
    std::copy(result.latencies.begin(), result.latencies.end(), latencies.Data());
    object.Set("latencies", latencies);
    return object;
}

} // namespace netverdict
