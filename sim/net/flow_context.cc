#include "net/flow_context.h"

#include <utility>

namespace sim::net
{

void FlowContext::Announce()
{
    if (!raw && !std::exchange(announced, true))
    {
        IndicateEstablished(resources->engine(), identity);
    }
}

void FlowContext::End(Job &job, OutcomeKind kind)
{
    job.result = kind;
    job.stage = Stage::kDone;
    if (job.kind == JobKind::kAuthorize || job.kind == JobKind::kDatagram)
    {
        return;
    }

    DirectionCounts &counts = resources->counts(job.direction);

    switch (kind)
    {
    case OutcomeKind::kPermitted:
    case OutcomeKind::kRedirected:
        Count(&counts.permitted);
        break;
    case OutcomeKind::kBlocked:
        Count(&counts.blocked);
        break;
    case OutcomeKind::kDropped:
        Count(&counts.dropped);
        break;
    case OutcomeKind::kPendingTimeout:
        Count(&resources->pending_timeouts());
        break;
    }
    if (conversation != nullptr && !job.stray)
    {
        conversation->Ended(identity, {job.direction, kind, job.withheld});
    }
}

void FlowContext::Refuse(Job &job, OutcomeKind kind)
{
    job.refused = true;
    job.refusal = kind;
    if (job.offer_always && !job.offered && job.packet != nullptr)
    {
        job.stage = Stage::kIpPacket;
        return;
    }
    End(job, kind);
}

void FlowContext::Begin(Direction direction, const IpPacketInfo &info)
{
    identity.direction = direction;
    if (IsIcmp(identity.protocol))
    {
        identity.local.port = info.source_port;
        identity.remote.port = info.destination_port;
    }
}

void FlowContext::Reset()
{
    FlowContext fresh;

    fresh.resources = resources;
    fresh.host = host;
    *this = std::move(fresh);
}

} // namespace sim::net
