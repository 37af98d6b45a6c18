// Fuzzes IP packets of both families at the packet layers: any bytes, in MDLs of any size.
// It also indicates fragments, several packets at once, and redirects. The input has the verdict on each question.
// An injected packet has right checksums if all indicated packets had them.
#include "computer.h"

#include "net/ip_packet.h"

#include <algorithm>

namespace
{

struct Indicated
{
    bool outbound;
    bool loopback;
    size_t piece;
    std::vector<std::vector<fuzz::ByteVector>> lists;
};

bool IsWholeWithRightChecksums(const fuzz::ByteVector &packet)
{
    sim::net::IpPacketInfo info;

    return sim::net::ParseIpPacket(packet.data(), packet.size(), &info) && info.length == packet.size() &&
           !info.fragment && sim::net::ChecksumsAreRight(packet.data(), info);
}

// The same TCP segment or UDP datagram with right checksums; other packets unchanged.
fuzz::ByteVector WrittenAnew(const fuzz::ByteVector &packet)
{
    sim::net::IpPacketInfo info;

    if (!sim::net::ParseIpPacket(packet.data(), packet.size(), &info) || info.fragment || !info.has_transport() ||
        info.length > packet.size())
    {
        return packet;
    }

    const uint8_t *payload = packet.data() + info.payload_offset();
    const size_t length = std::min<size_t>(info.payload_length, packet.size() - info.payload_offset());
    fuzz::ByteVector whole(packet.size() + 64);

    if (info.protocol == PROTOCOL_TCP)
    {
        whole.resize(sim::net::WriteTcpPacket(whole.data(), info.source_endpoint(), info.destination_endpoint(),
                                              {info.sequence, info.acknowledgment, info.tcp_flags}, payload, length));
        return whole;
    }
    if (info.protocol == PROTOCOL_UDP)
    {
        whole.resize(sim::net::WriteUdpPacket(whole.data(), info.source_endpoint(), info.destination_endpoint(),
                                              payload, length));
        return whole;
    }
    return packet;
}

Indicated ReadIndicated(fuzz::Input &input)
{
    constexpr size_t kPieces[] = {0, 0, 1, 3, 8, 13, 20, 41};
    const uint8_t how = input.Byte();
    Indicated indicated{(how & 1) != 0, (how & 2) != 0, kPieces[(how >> 2) % 8], {}};

    for (uint8_t packets = 1 + input.Byte() % 4; packets != 0; packets--)
    {
        const uint8_t kind = input.Byte();
        fuzz::ByteVector packet = input.CountedBytes();

        if (packet.empty())
        {
            continue;
        }
        if ((kind & 1) != 0)
        {
            packet = WrittenAnew(packet);
        }
        if (indicated.lists.empty() || (kind & 2) != 0)
        {
            indicated.lists.emplace_back();
        }
        indicated.lists.back().push_back(std::move(packet));
    }
    return indicated;
}

uint32_t HeaderOfAll(const Indicated &indicated)
{
    uint32_t header = kext_test::HeaderLength(indicated.lists[0][0]);

    for (const auto &list : indicated.lists)
    {
        for (const fuzz::ByteVector &packet : list)
        {
            header = std::min(header, static_cast<uint32_t>(packet.size()));
        }
    }
    return header;
}

void Indicate(fuzz::Computer &computer, const Indicated &indicated)
{
    const bool v6 = kext_test::IsV6(indicated.lists[0][0]);
    const uint32_t header = indicated.outbound ? 0 : HeaderOfAll(indicated);
    kext_test::PacketChain chain(computer.machine(), indicated.lists, header, indicated.piece);

    if (indicated.outbound)
    {
        computer.network().OutboundChain(v6, chain.head());
    }
    else
    {
        computer.network().InboundChain(v6, chain.head(), header,
                                        indicated.loopback ? FWP_CONDITION_FLAG_IS_LOOPBACK : 0);
    }
}

bool AllRight(const Indicated &indicated)
{
    return std::all_of(indicated.lists.begin(), indicated.lists.end(), [](const auto &list)
                       { return std::all_of(list.begin(), list.end(), &IsWholeWithRightChecksums); });
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz::Input input(data, size);
    fuzz::ClientLife life;
    fuzz::Computer &computer = life.computer();
    bool all_right = true;

    while (!input.empty())
    {
        const Indicated indicated = ReadIndicated(input);

        if (indicated.lists.empty())
        {
            continue;
        }
        all_right = all_right && AllRight(indicated);
        Indicate(computer, indicated);
        for (const fuzz::Question &question : computer.client().ReadQuestions())
        {
            computer.client().Verdict(question.id, input.Byte() % VerdictCount);
        }
        for (const kext_test::Injected &injected : computer.network().TakeInjected())
        {
            EXPECT_TRUE(!all_right || kext_test::ChecksumsAreRight(injected.bytes));
        }
        computer.machine().clock().Advance(std::chrono::milliseconds(input.Byte() * 16));
    }
    return 0;
}
