// The byte stream that a base client gets over a fixed script of traffic: test/protocol/base_session.bin.
// A base client never sends SetOptions. Its stream changes only by a line of docs/behaviour.md's section on base
// clients.
//
// Each scene is one session over IPv4 and one over IPv6, each with a driver of its own, whose ids start at 1.
// So a change of one scene does not change the bytes of another. The file holds the sessions' streams back to back.
// NETVERDICT_RECORD=1 in the environment records the file anew.
#include "base_session.h"
#include "support/commands.h"
#include "support/record_text.h"

#include "net/ip_packet.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <utility>

namespace kext_test
{
namespace
{

using namespace std::chrono_literals;
using sim::net::kTcpAck;
using sim::net::kTcpFin;
using sim::net::kTcpPush;
using sim::net::kTcpRst;
using sim::net::kTcpSyn;

constexpr char kFile[] = SOURCE_ROOT "/test/protocol/base_session.bin";

constexpr uint8_t kVerdicts[] = {VerdictUndecided, VerdictUndeterminable,     VerdictAccept, VerdictPermanentAccept,
                                 VerdictBlock,     VerdictPermanentBlock,     VerdictDrop,   VerdictPermanentDrop,
                                 VerdictFailed,    VerdictRedirectSplitTunnel};
constexpr uint8_t kUsualVerdicts[] = {VerdictAccept, VerdictPermanentAccept, VerdictBlock, VerdictPermanentBlock,
                                      VerdictDrop};
constexpr uint8_t kRedirects[] = {VerdictRedirectNameServer, VerdictRedirectTunnel, VerdictRedirectSplitTunnel};

constexpr uint8_t kGre = 47;
constexpr uint8_t kEsp = 50;
constexpr uint8_t kOspf = 89;
constexpr uint8_t kSctp = 132;

// The script.
class Scenes : public BaseSession
{
  public:
    using BaseSession::BaseSession;

    // ---- TCP

    void TcpConnects()
    {
        for (const uint8_t verdict : kVerdicts)
        {
            const Flow flow = Next(PROTOCOL_TCP, There(443));

            if (!Connect(flow, nullptr, verdict))
            {
                Connect(flow, nullptr, verdict);
                Release(flow);
                continue;
            }
            if (Out(Sent(flow, kTcpSyn), verdict))
            {
                Converse(flow, verdict);
                Close(flow);
            }
            else
            {
                Wait(1s);
                Out(Sent(flow, kTcpSyn), verdict);
            }
            Release(flow);
        }
    }

    void TcpArrives()
    {
        for (const uint8_t verdict : kVerdicts)
        {
            const Flow flow = Next(PROTOCOL_TCP, There(40000));
            const ByteVector syn = Received(flow, kTcpSyn);

            if (Arrive(flow, syn, verdict) && Out(Sent(flow, kTcpSyn | kTcpAck), verdict))
            {
                In(Received(flow, kTcpAck, "GET / HTTP/1.1\r\n\r\n"), verdict);
                Out(Sent(flow, kTcpAck | kTcpPush, "HTTP/1.1 200 OK\r\n\r\n"), verdict);
                In(Received(flow, kTcpRst), verdict);
            }
            else
            {
                Wait(1s);
                Arrive(flow, syn, verdict);
            }
            Close(flow);
            Release(flow);
        }
    }

    void TcpOfAPeerOnTheLink()
    {
        for (const uint8_t verdict : kUsualVerdicts)
        {
            Flow flow = Next(PROTOCOL_TCP, Neighbour(445));

            flow.local = LinkHere(flow.local.port);
            if (Connect(flow, nullptr, verdict) && Out(Sent(flow, kTcpSyn), verdict))
            {
                Converse(flow, verdict);
            }
            Close(flow);
        }
    }

    void StrayResets()
    {
        const Flow unknown = Next(PROTOCOL_TCP, There(40000));

        Out(Sent(unknown, kTcpRst | kTcpAck), VerdictAccept);
        In(Received(unknown, kTcpRst), VerdictAccept);
        Release(unknown);

        const Flow refused = Next(PROTOCOL_TCP, There(40001));
        const ByteVector syn = Received(refused, kTcpSyn);

        In(syn);
        Out(Sent(refused, kTcpRst | kTcpAck), VerdictBlock);
        Release(refused);
    }

    // ---- UDP

    void UdpSends()
    {
        for (const uint8_t verdict : kVerdicts)
        {
            const Flow flow = Next(PROTOCOL_UDP, There(4500));

            SendFirst(flow, "first", verdict);
            Out(Sent(flow, "second"), verdict);
            In(Received(flow, "answer"), verdict);
            Out(Sent(flow, ""), verdict);
            In(Received(flow, std::string(1400, 'x')), verdict);
            CloseSocket(flow);
        }
    }

    void UdpArrives()
    {
        for (const uint8_t verdict : kVerdicts)
        {
            const Flow flow = Next(PROTOCOL_UDP, There(40000));

            Arrive(flow, Received(flow, "first"), verdict);
            In(Received(flow, "second"), verdict);
            Out(Sent(flow, "answer"), verdict);
            In(Received(flow, std::string(1400, 'x')), verdict);
            CloseSocket(flow);
        }
    }

    void UdpOfAPeerOnTheLink()
    {
        for (const uint8_t verdict : kUsualVerdicts)
        {
            Flow flow = Next(PROTOCOL_UDP, Router(53));

            flow.local = LinkHere(flow.local.port);
            SendFirst(flow, "query", verdict);
            In(Received(flow, "answer"), verdict);
            Out(Sent(flow, "query again"), verdict);
            CloseSocket(flow);
        }
    }

    // A packet that ALE did not see, for example of a virtual machine.
    void PacketsThatNobodyAuthorized()
    {
        for (const uint8_t verdict : kUsualVerdicts)
        {
            const Flow udp = Next(PROTOCOL_UDP, There(4500));
            const Flow tcp = Next(PROTOCOL_TCP, There(443));

            Out(Sent(udp, "first"), verdict);
            Out(Sent(udp, "second"), verdict);
            In(Received(udp, "answer"), verdict);
            Out(Sent(tcp, kTcpSyn), verdict);
            In(Received(tcp, kTcpSyn | kTcpAck), verdict);
            Close(tcp);
            Release(udp);
        }
    }

    // ---- Several questions at once

    void VerdictsInAnotherOrder()
    {
        const Flow udp = Next(PROTOCOL_UDP, There(4500));
        const Flow tcp = Next(PROTOCOL_TCP, There(443));
        const ByteVector first = Sent(udp, "first");
        const ByteVector second = Sent(udp, "second");

        network_.Connect(udp, &first);
        network_.Connect(udp, &second);
        network_.Outbound(Sent(udp, "third"));
        network_.Connect(tcp);

        std::vector<Question> questions = Read();

        std::reverse(questions.begin(), questions.end());
        for (const Question &question : questions)
        {
            Command(VerdictBytes(question.id, VerdictPermanentAccept));
        }
        Command(VerdictBytes(questions.empty() ? 1 : questions.front().id, VerdictBlock));
        Command(VerdictBytes(1000, VerdictAccept));
        Answer(VerdictAccept);
        Out(Sent(udp, "fourth"));
        Close(tcp);
        CloseSocket(udp);
    }

    void AnEndWhileAQuestionWaits()
    {
        const Flow tcp = Next(PROTOCOL_TCP, There(443));
        const Flow udp = Next(PROTOCOL_UDP, There(4500));
        const ByteVector packet = Sent(udp, "first");

        network_.Connect(tcp);
        network_.Connect(udp, &packet);

        const std::vector<Question> questions = Read();

        Close(tcp);
        Release(udp);
        for (const Question &question : questions)
        {
            Command(VerdictBytes(question.id, VerdictPermanentAccept));
        }
        Answer(VerdictAccept);
        Connect(tcp, nullptr, VerdictBlock);
        SendFirst(udp, "again", VerdictPermanentBlock);
        Release(tcp);
        CloseSocket(udp);
    }

    // ---- Protocols without ports

    void EchoesThatGoOut()
    {
        for (const uint8_t verdict : kUsualVerdicts)
        {
            const Flow flow = EchoFlow(There(0), echo_request());
            const ByteVector request = Echo(Here(0), There(0), echo_request(), "ping");

            if (Connect(flow, &request, verdict) && Out(request, verdict))
            {
                In(Echo(There(0), Here(0), echo_reply(), "ping"), verdict);
            }
            Out(Echo(Here(0), There(0), echo_request(), "again"), verdict);
        }
    }

    void EchoesThatComeIn()
    {
        for (const uint8_t verdict : kUsualVerdicts)
        {
            const Flow flow = EchoFlow(There(0), echo_request());

            if (Arrive(flow, Echo(There(0), Here(0), echo_request(), "ping"), verdict))
            {
                Out(Echo(Here(0), There(0), echo_reply(), "ping"), verdict);
            }
        }
    }

    void IcmpErrors()
    {
        const uint8_t unreachable = v6() ? 1 : 3;
        const uint8_t port_unreachable = v6() ? 4 : 3;
        const uint8_t too_big = v6() ? 2 : 3;
        const uint8_t fragmentation_needed = v6() ? 0 : 4;
        const uint8_t time_exceeded = v6() ? 3 : 11;
        const Flow flow = Next(PROTOCOL_UDP, There(4500));
        const Flow unknown = Next(PROTOCOL_UDP, There(4501));

        SendFirst(flow, "query", VerdictPermanentAccept);
        In(Error(There(0), Here(0), unreachable, port_unreachable, Sent(flow, "query")), VerdictAccept);
        In(Error(Router(0), Here(0), too_big, fragmentation_needed, Sent(flow, "query")), VerdictPermanentAccept);
        In(Error(Router(0), Here(0), time_exceeded, 0, Sent(flow, "query")), VerdictBlock);
        In(Error(Router(0), Here(0), time_exceeded, 0, Sent(unknown, "query")), VerdictDrop);
        Out(Error(Here(0), There(0), unreachable, port_unreachable, Received(flow, "late")), VerdictAccept);
        Out(Error(Here(0), There(0), unreachable, port_unreachable, Received(unknown, "probe")), VerdictBlock);
        CloseSocket(flow);
    }

    // IGMP, and MLD for IPv6.
    void GroupMembership()
    {
        for (const uint8_t verdict : {VerdictAccept, VerdictPermanentAccept, VerdictBlock})
        {
            Out(GroupReport(LinkHere(0)), verdict);
            In(GroupQuery(), verdict);
        }
        Out(GroupReport(Nobody(0)), VerdictAccept);
    }

    // The messages 133 to 137 of IPv6. A router advertisement and a solicitation have been seen with ICMP types alike.
    void NeighbourDiscovery()
    {
        constexpr uint8_t kHops = 255;
        const ByteVector body(20, 0);
        const Endpoint here = At("192.0.2.1", "fe80::1", 0);
        const Endpoint routers = At("224.0.0.2", "ff02::2", 0);
        const Endpoint solicited = At("224.0.0.1", "ff02::1:ff00:1", 0);
        const uint8_t solicit = v6() ? 133 : 10; // RFC 1256 is the same for IPv4
        const uint8_t advertise = v6() ? 134 : 9;

        for (const uint8_t verdict : {VerdictAccept, VerdictPermanentAccept, VerdictBlock})
        {
            Out(RawIcmp(here, routers, solicit, 0, body, kHops), verdict);
            In(RawIcmp(Router(0), At("224.0.0.1", "ff02::1", 0), advertise, 0, body, kHops), verdict);
            if (v6())
            {
                Out(RawIcmp(Nobody(0), solicited, 135, 0, body, kHops), verdict);
                In(RawIcmp(Neighbour(0), solicited, 135, 0, body, kHops), verdict);
                Out(RawIcmp(here, Neighbour(0), 136, 0, body, kHops), verdict);
                In(RawIcmp(Neighbour(0), here, 136, 0, body, kHops), verdict);
                In(RawIcmp(Router(0), here, 137, 0, ByteVector(36, 0), kHops), verdict);
                In(RawIcmp(There(0), Here(0), 135, 0, body), verdict);
            }
        }
    }

    void OtherProtocols()
    {
        for (const uint8_t protocol : {kGre, kEsp, kSctp})
        {
            for (const uint8_t verdict : {VerdictAccept, VerdictPermanentAccept, VerdictBlock})
            {
                const Flow flow = Flow{protocol, Here(0), There(0), 1234};
                const ByteVector packet = RawIp(Here(0), There(0), protocol, Payload(24));

                if (Connect(flow, &packet, verdict))
                {
                    Out(packet, verdict);
                }
                Arrive(flow, RawIp(There(0), Here(0), protocol, Payload(24)), verdict);
            }
        }
        Out(RawIp(LinkHere(0), At("224.0.0.5", "ff02::5", 0), kOspf, Payload(24), 1), VerdictAccept);
        In(RawIp(Router(0), At("224.0.0.5", "ff02::5", 0), kOspf, Payload(24), 1), VerdictAccept);
    }

    // ---- Multicast and broadcast

    void Dhcp()
    {
        const uint16_t client = v6() ? 546 : 68;
        const uint16_t server = v6() ? 547 : 67;
        const Endpoint servers = At("255.255.255.255", "ff02::1:2", server);
        const Endpoint lease = v6() ? LinkHere(client) : AllNodes(client);

        for (const uint8_t verdict : {VerdictAccept, VerdictPermanentAccept, VerdictBlock})
        {
            const Flow ask = {PROTOCOL_UDP, v6() ? LinkHere(client) : Nobody(client), servers, 1100};
            const Flow renew = {PROTOCOL_UDP, LinkHere(client), Router(server), 1100};

            SendFirst(ask, "discover", verdict);
            In(RawUdp(Router(server), lease, Text("offer")), verdict);
            Out(Sent(ask, "request"), verdict);
            In(RawUdp(Router(server), lease, Text("acknowledge")), verdict);
            SendFirst(renew, "renew", verdict);
            In(Received(renew, "acknowledge"), verdict);
            CloseSocket(ask);
            CloseSocket(renew);
            Wait(90s);
        }
    }

    void MulticastsThatGoOut()
    {
        const Endpoint groups[] = {At("224.0.0.251", "ff02::fb", 5353), At("239.255.255.250", "ff02::c", 1900),
                                   At("239.1.2.3", "ff0e::123", 7000), AllNodes(9), At("192.0.2.255", "ff02::1", 137)};

        for (const Endpoint &group : groups)
        {
            for (const uint8_t verdict : kUsualVerdicts)
            {
                const Flow flow = Next(PROTOCOL_UDP, group);

                SendFirst(flow, "who is there", verdict);
                Out(Sent(flow, "who is there"), verdict);
                Wait(1s);
                Out(Sent(flow, "who is there"), verdict);
                CloseSocket(flow);
            }
        }
    }

    void MulticastsThatComeIn()
    {
        const Endpoint groups[] = {At("224.0.0.251", "ff02::fb", 5353), At("239.255.255.250", "ff02::c", 1900),
                                   AllNodes(9), At("192.0.2.255", "ff02::1", 137)};

        for (const Endpoint &group : groups)
        {
            for (const uint8_t verdict : {VerdictAccept, VerdictPermanentAccept, VerdictBlock, VerdictPermanentBlock})
            {
                const Endpoint peer = Neighbour(static_cast<uint16_t>(6000 + verdict));

                In(RawUdp(peer, group, Text("I am here")), verdict);
                In(RawUdp(peer, group, Text("still here")), verdict);
            }
        }
    }

    // Windows does not authorize an answer within 4 s of the multicast.
    void UnicastAnswersToAMulticast()
    {
        const Endpoint group = At("239.255.255.250", "ff02::c", 1900);

        for (const uint8_t verdict : {VerdictAccept, VerdictPermanentAccept, VerdictBlock, VerdictPermanentBlock})
        {
            Flow flow = Next(PROTOCOL_UDP, group);

            SendFirst(flow, "M-SEARCH", VerdictPermanentAccept);
            flow.remote = Neighbour(1900);
            In(Received(flow, "answer"), verdict);
            In(Received(flow, "another answer"), verdict);
            Out(Sent(flow, "thanks"), verdict);
            CloseSocket(flow);
        }
    }

    void AnAnswerThatComesTooLate()
    {
        Flow flow = Next(PROTOCOL_UDP, At("239.255.255.250", "ff02::c", 1900));

        SendFirst(flow, "M-SEARCH", VerdictPermanentAccept);
        Wait(5s);
        flow.remote = Neighbour(1900);
        Arrive(flow, Received(flow, "late answer"), VerdictAccept);
        In(Received(flow, "later answer"), VerdictBlock);
        CloseSocket(flow);
    }

    // ---- Fragments

    void FragmentsInOrder()
    {
        for (const uint8_t verdict : {VerdictAccept, VerdictPermanentAccept, VerdictBlock, VerdictPermanentDrop})
        {
            const Flow flow = Next(PROTOCOL_UDP, There(4500));
            const ByteVector out = Sent(flow, std::string(100, 'o'));
            const ByteVector in = Received(flow, std::string(100, 'i'));

            Out(Fragment(out, 0, 40, verdict), verdict);
            Out(Fragment(out, 40, 40, verdict), verdict);
            Out(Fragment(out, 80, 40, verdict), verdict);
            if (In(Fragment(in, 0, 64, verdict), verdict) && In(Fragment(in, 64, 64, verdict), verdict))
            {
                network_.Reassembled(in);
                Accept(flow, in, verdict);
            }
            CloseSocket(flow);
        }
    }

    void FragmentsOfAnUnknownSender()
    {
        for (const uint8_t verdict : {VerdictAccept, VerdictPermanentAccept, VerdictBlock, VerdictPermanentDrop})
        {
            const Flow flow = Next(PROTOCOL_UDP, There(4500));
            const ByteVector in = Received(flow, std::string(100, 'i'));

            if (In(Fragment(in, 0, 64, verdict), verdict) && In(Fragment(in, 64, 64, verdict), verdict))
            {
                network_.Reassembled(in);
                Accept(flow, in, verdict);
            }
            In(Fragment(in, 0, 64, 100u + verdict), verdict);
            In(Fragment(in, 64, 64, 100u + verdict), verdict);
            CloseSocket(flow);
        }
    }

    void ALaterFragmentFirst()
    {
        for (const uint8_t verdict : {VerdictAccept, VerdictBlock})
        {
            const Flow flow = Next(PROTOCOL_UDP, There(4500));
            const ByteVector out = Sent(flow, std::string(100, 'o'));
            const ByteVector in = Received(flow, std::string(100, 'i'));

            Out(Fragment(out, 64, 64, verdict), verdict);
            Out(Fragment(out, 0, 64, verdict), verdict);
            In(Fragment(in, 64, 64, verdict), verdict);
            In(Fragment(in, 0, 64, verdict), verdict);
            Out(Fragment(out, 64, 64, 100u + verdict), verdict);
            Wait(2s);
            Out(Fragment(out, 0, 64, 100u + verdict), verdict);
            CloseSocket(flow);
        }
    }

    void FragmentsWithoutPorts()
    {
        for (const uint8_t verdict : {VerdictAccept, VerdictBlock})
        {
            const ByteVector out = Echo(Here(0), There(0), echo_request(), std::string(100, 'o'));
            const ByteVector in = Echo(There(0), Here(0), echo_reply(), std::string(100, 'o'));

            Out(Fragment(out, 0, 64, verdict), verdict);
            Out(Fragment(out, 64, 64, verdict), verdict);
            In(Fragment(in, 0, 64, verdict), verdict);
            In(Fragment(in, 64, 64, verdict), verdict);
        }
    }

    // ---- Redirects

    void RedirectsOfUdp()
    {
        for (const uint8_t verdict : kRedirects)
        {
            const Flow flow = Next(PROTOCOL_UDP, There(53));
            const Flow target = TargetOf(flow, verdict);

            SendFirst(flow, "query", verdict);
            Out(RawUdp(target.remote, target.local, Text("answer")), VerdictBlock);
            In(RawUdp(target.remote, target.local, Text("answer")), VerdictBlock, true);
            Out(Sent(flow, "another query"), verdict);
            In(Received(flow, "an answer from the network"), VerdictBlock);
            CloseSocket(flow);
        }
    }

    void RedirectsOfTcp()
    {
        for (const uint8_t verdict : kRedirects)
        {
            const Flow flow = Next(PROTOCOL_TCP, There(53));
            const Flow target = TargetOf(flow, verdict);

            Connect(flow, nullptr, verdict);
            Out(Sent(flow, kTcpSyn), verdict);
            Out(Received(target, kTcpSyn | kTcpAck), VerdictBlock);
            In(Received(target, kTcpSyn | kTcpAck), VerdictBlock, true);
            Out(Sent(flow, kTcpAck | kTcpPush, "query"), verdict);
            Close(flow);
            Out(Sent(flow, kTcpAck | kTcpFin), VerdictBlock);
            Release(flow);
        }
    }

    void RedirectsOfThePacketLayer()
    {
        for (const uint8_t verdict : kRedirects)
        {
            const Flow flow = Next(PROTOCOL_UDP, There(53));
            const Flow target = TargetOf(flow, verdict);

            Out(Sent(flow, "query"), verdict);
            In(RawUdp(target.remote, target.local, Text("answer")), VerdictBlock, true);
            Out(Sent(flow, "another query"), verdict);
            Release(flow);
        }
    }

    void RedirectsOfALinkLocalResolver()
    {
        for (const uint8_t verdict : kRedirects)
        {
            Flow flow = Next(PROTOCOL_UDP, At("169.254.0.53", "fe80::53", 53));

            flow.local = At("169.254.0.1", "fe80::1", flow.local.port);
            SendFirst(flow, "query", verdict);
            In(Received(TargetOf(flow, verdict), "answer"), VerdictBlock, true);
            Out(Sent(flow, "another query"), verdict);
            CloseSocket(flow);
        }
    }

    // ---- The machine with itself

    void LoopbackTraffic()
    {
        AleOptions options;

        // The observer does not tell the two ends of one connection apart.
        client_.StopObserving();
        options.loopback = true;
        for (const uint8_t verdict : {VerdictAccept, VerdictPermanentAccept, VerdictBlock})
        {
            Flow tcp = Next(PROTOCOL_TCP, Loopback(8080));
            Flow udp = Next(PROTOCOL_UDP, Loopback(8081));

            tcp.local = Loopback(tcp.local.port);
            udp.local = Loopback(udp.local.port);

            const Flow server = {PROTOCOL_TCP, tcp.remote, tcp.local, 77};
            const Flow receiver = {PROTOCOL_UDP, udp.remote, udp.local, 77};
            const ByteVector datagram = Sent(udp, "hello");

            if (Connect(tcp, nullptr, verdict, options) && Out(Sent(tcp, kTcpSyn), verdict))
            {
                Arrive(server, Received(server, kTcpSyn), verdict, options);
                Out(Sent(server, kTcpSyn | kTcpAck), verdict);
                In(Received(tcp, kTcpSyn | kTcpAck), verdict, true);
            }
            if (Connect(udp, &datagram, verdict, options))
            {
                Arrive(receiver, datagram, verdict, options);
                Out(Sent(receiver, "hello yourself"), verdict);
                In(Received(udp, "hello yourself"), verdict, true);
            }
            Close(tcp);
            Close(server);
            Release(tcp);
            CloseSocket(udp);
            CloseSocket(receiver);
        }
    }

    // ---- Ends

    void PacketsAfterTheEnd()
    {
        for (const uint8_t verdict : {VerdictAccept, VerdictPermanentAccept, VerdictPermanentBlock})
        {
            const Flow tcp = Next(PROTOCOL_TCP, There(443));
            const Flow udp = Next(PROTOCOL_UDP, There(4500));

            Connect(tcp, nullptr, verdict);
            Close(tcp);
            Close(tcp);
            Out(Sent(tcp, kTcpFin | kTcpAck), verdict);
            In(Received(tcp, kTcpFin | kTcpAck), verdict);
            SendFirst(udp, "hello", verdict);
            CloseSocket(udp);
            Out(Sent(udp, "late"), verdict);
            Arrive(udp, Received(udp, "late"), verdict);
            CloseSocket(udp);
        }
    }

    // Several connections may share one port.
    void ReleasesOfPorts()
    {
        const Flow accepted = Next(PROTOCOL_TCP, There(40000));
        const Flow udp = Next(PROTOCOL_UDP, There(4500));
        Flow never_came_up = Next(PROTOCOL_TCP, There(443));
        Flow other_process = udp;

        never_came_up.process_id = accepted.process_id;
        never_came_up.local = accepted.local;
        other_process.process_id = 4321;
        Arrive(accepted, Received(accepted, kTcpSyn), VerdictPermanentAccept);
        Connect(never_came_up, nullptr, VerdictPermanentAccept);
        Release(accepted);
        In(Received(accepted, kTcpAck));
        Close(accepted);

        SendFirst(udp, "hello", VerdictPermanentAccept);
        Release(other_process);
        Out(Sent(udp, "still here"));
        Release(udp);
        Release(udp);
    }

    void PortsThatAreUsedAgain()
    {
        Flow tcp = Next(PROTOCOL_TCP, There(443));
        Flow udp = Next(PROTOCOL_UDP, There(4500));

        for (const uint8_t verdict : {VerdictPermanentAccept, VerdictPermanentBlock, VerdictAccept, VerdictBlock})
        {
            Connect(tcp, nullptr, verdict);
            Out(Sent(tcp, kTcpSyn), verdict);
            Close(tcp);
            Release(tcp);
            SendFirst(udp, "hello", verdict);
            CloseSocket(udp);
            tcp.process_id++;
            udp.process_id++;
        }
        Arrive(tcp, Received(tcp, kTcpSyn), VerdictPermanentAccept);
        Close(tcp);
    }

    // ---- Commands

    void Updates()
    {
        const Flow tcp = Next(PROTOCOL_TCP, There(443));
        const Flow udp = Next(PROTOCOL_UDP, There(4500));

        Connect(tcp, nullptr, VerdictPermanentAccept);
        SendFirst(udp, "hello", VerdictAccept);
        for (const uint8_t verdict :
             {VerdictPermanentBlock, VerdictAccept, VerdictBlock, VerdictPermanentAccept, VerdictRedirectNameServer})
        {
            Command(UpdateBytes(tcp, verdict));
            Command(UpdateBytes(udp, verdict));
            Out(Sent(tcp, kTcpAck, "data"), VerdictAccept);
            In(Received(tcp, kTcpAck, "data"), VerdictAccept);
            Out(Sent(udp, "data"), VerdictAccept);
            In(Received(udp, "data"), VerdictAccept);
        }
        Command(UpdateBytes(Next(PROTOCOL_UDP, There(53)), VerdictPermanentAccept));
        Close(tcp);
        CloseSocket(udp);
        Command(UpdateBytes(tcp, VerdictPermanentAccept));
    }

    void ClearCacheOverALiveConnection()
    {
        const Flow tcp = Next(PROTOCOL_TCP, There(443));
        const ByteVector packet = Sent(tcp, kTcpAck, "data");
        AleOptions again;

        again.reauthorize = true;
        Connect(tcp, nullptr, VerdictPermanentAccept);
        Out(Sent(tcp, kTcpSyn));
        Command({CommandClearCache});
        Connect(tcp, &packet, VerdictPermanentAccept, again);
        Connect(tcp, &packet, VerdictPermanentAccept, again);
        Out(packet);
        Command({CommandClearCache});
        In(Received(tcp, kTcpAck, "data"), VerdictBlock);
        Out(packet, VerdictBlock);
        Close(tcp);
    }

    void ClearCacheWhileAQuestionWaits()
    {
        const Flow udp = Next(PROTOCOL_UDP, There(4500));
        const ByteVector packet = Sent(udp, "hello");

        network_.Connect(udp, &packet);

        const std::vector<Question> questions = Read();

        Command({CommandClearCache});
        Out(Sent(udp, "again"), VerdictAccept);
        for (const Question &question : questions)
        {
            Command(VerdictBytes(question.id, VerdictPermanentAccept));
        }
        Answer(VerdictAccept);
        Out(Sent(udp, "and again"), VerdictAccept);
        CloseSocket(udp);
    }

    void BandwidthStats()
    {
        const Flow tcp = Next(PROTOCOL_TCP, There(443));
        const Flow udp = Next(PROTOCOL_UDP, There(4500));

        Command({CommandGetBandwidthStats});
        Connect(tcp, nullptr, VerdictPermanentAccept);
        network_.Stream(tcp, false, 100);
        network_.Stream(tcp, true, 4000);
        Command({CommandGetBandwidthStats});
        Command({CommandGetBandwidthStats});
        SendFirst(udp, "hello", VerdictPermanentAccept);
        network_.Stream(tcp, true, 1);
        network_.Datagrams(udp, false, {{Sent(udp, "hello")}});
        network_.Datagrams(udp, true, {{Received(udp, "hello"), Received(udp, "hello again")}});
        Command({CommandGetBandwidthStats});
        Close(tcp);
        CloseSocket(udp);
        network_.Datagrams(udp, false, {{Sent(udp, "late")}});
        Command({CommandGetBandwidthStats});
    }

    void EndedConnectionsAreCleaned()
    {
        const Flow tcp = Next(PROTOCOL_TCP, There(443));

        Connect(tcp, nullptr, VerdictPermanentAccept);
        Close(tcp);
        Command({CommandCleanEndedConnections});
        Out(Sent(tcp, kTcpFin | kTcpAck), VerdictAccept);
        Wait(61s);
        Command({CommandCleanEndedConnections});
        Out(Sent(tcp, kTcpFin | kTcpAck), VerdictAccept);
        Close(tcp);
    }

    void AnIdleConnectionIsCleaned()
    {
        const Flow udp = Next(PROTOCOL_UDP, There(4500));

        SendFirst(udp, "hello", VerdictPermanentAccept);
        Wait(9min);
        Out(Sent(udp, "still here"));
        Wait(11min);
        Command({CommandCleanEndedConnections});
        Out(Sent(udp, "back"), VerdictBlock);
        CloseSocket(udp);
    }

    void OtherCommands()
    {
        const Flow tcp = Next(PROTOCOL_TCP, There(443));

        Command({CommandPrintMemoryStats});
        EXPECT_NE(client_.Write({}).status, STATUS_SUCCESS);
        EXPECT_NE(client_.Write({200}).status, STATUS_SUCCESS);
        EXPECT_NE(client_.Write({CommandVerdict, 1, 0, 0}).status, STATUS_SUCCESS);
        EXPECT_NE(client_.Write(VerdictBytes(1, VerdictCount)).status, STATUS_SUCCESS);
        Connect(tcp, nullptr, VerdictPermanentAccept);
        Close(tcp);
    }

    // ---- The life of the driver

    void FlowsFromBeforeTheAttach()
    {
        const Flow tcp = Next(PROTOCOL_TCP, There(443));
        const Flow udp = Next(PROTOCOL_UDP, There(40000));
        const ByteVector sent = Sent(tcp, kTcpAck, "data");
        const ByteVector received = Received(udp, "data");
        AleOptions again;

        client_.Close();
        EXPECT_TRUE(network_.Connect(tcp).permitted());
        EXPECT_TRUE(network_.Outbound(sent).permitted());
        EXPECT_TRUE(network_.Accept(udp, &received).permitted());
        EXPECT_EQ(client_.Open(), STATUS_SUCCESS);
        Read();
        again.reauthorize = true;
        Connect(tcp, &sent, VerdictPermanentAccept, again);
        Connect(tcp, &sent, VerdictPermanentAccept, again);
        Out(sent);
        if (In(received, VerdictAccept))
        {
            Accept(udp, received, VerdictAccept, again);
        }
        Out(Sent(udp, "answer"), VerdictBlock);
        Close(tcp);
        CloseSocket(udp);
    }

    // The packet layer sees an old connection before ALE authorizes it again.
    void PacketsFromBeforeTheAttach()
    {
        const Flow tcp = Next(PROTOCOL_TCP, There(443));
        const ByteVector packet = Sent(tcp, kTcpAck, "data");
        AleOptions again;

        again.reauthorize = true;
        In(Received(tcp, kTcpAck, "data"), VerdictAccept);
        network_.Outbound(packet);

        const std::vector<Question> questions = Read();

        network_.Connect(tcp, &packet, again);
        Read();
        for (const Question &question : questions)
        {
            Command(VerdictBytes(question.id, VerdictPermanentAccept));
        }
        Answer(VerdictAccept);
        Out(packet);
        Close(tcp);
    }

    void MalformedPackets()
    {
        const Flow flow = Next(PROTOCOL_UDP, There(4500));
        ByteVector long_total = Received(flow, "hello");
        ByteVector short_header = Sent(flow, "hello");
        ByteVector cut_transport = RawIp(flow.local, flow.remote, PROTOCOL_TCP, {0xC3, 0x50, 0x01, 0xBB});

        long_total[v6() ? 4 : 2] = 0x7F;
        short_header[0] = static_cast<uint8_t>(v6() ? 0x60 : 0x44);
        short_header.resize(v6() ? 44 : short_header.size());
        In(long_total);
        Out(long_total);
        Out(short_header);
        Out(cut_transport);
        In(RawIp(flow.remote, flow.local, PROTOCOL_UDP, {1, 2, 3}));
        CloseSocket(flow);
    }

    void ShutdownWhileQuestionsWait()
    {
        const Flow tcp = Next(PROTOCOL_TCP, There(443));
        const Flow udp = Next(PROTOCOL_UDP, There(4500));

        network_.Connect(tcp);
        network_.Outbound(Sent(udp, "hello"));
        Read();
        EXPECT_EQ(client_.Command(CommandShutdown).status, STATUS_SUCCESS);
        EXPECT_TRUE(network_.Outbound(Sent(udp, "hello")).permitted());
        network_.Close(tcp);
        network_.Release(udp.protocol, udp.local, udp.process_id);
    }

  private:
    void Converse(const Flow &flow, uint8_t verdict)
    {
        In(Received(flow, kTcpSyn | kTcpAck), verdict);
        Out(Sent(flow, kTcpAck | kTcpPush, "GET / HTTP/1.1\r\n\r\n"), verdict);
        In(Received(flow, kTcpAck, "HTTP/1.1 200 OK\r\n\r\n"), verdict);
        Out(Sent(flow, kTcpFin | kTcpAck), verdict);
        In(Received(flow, kTcpFin | kTcpAck), verdict);
    }

    // The ALE layers give an ICMP message's type and code in place of the ports.
    Flow EchoFlow(const Endpoint &remote, uint8_t type) const
    {
        Flow flow = {icmp(), Here(type), remote, 1234};

        flow.remote.port = 0;
        return flow;
    }

    static ByteVector Echo(const Endpoint &source, const Endpoint &destination, uint8_t type, const std::string &text)
    {
        ByteVector body = {0x12, 0x34, 0, 1};

        body.insert(body.end(), text.begin(), text.end());
        return RawIcmp(source, destination, type, 0, body);
    }

    static ByteVector Error(const Endpoint &source, const Endpoint &destination, uint8_t type, uint8_t code,
                            const ByteVector &quoted)
    {
        ByteVector body(4, 0);

        body.insert(body.end(), quoted.begin(), quoted.end());
        return RawIcmp(source, destination, type, code, body);
    }

    // IGMP version 3 or MLD version 2.
    ByteVector GroupReport(const Endpoint &source) const
    {
        const ByteVector records = v6() ? ByteVector(24, 0) : ByteVector{0x22, 0, 0xDD, 0xFD, 0, 0, 0, 0};

        return v6() ? RawIcmp(source, At("", "ff02::16", 0), 143, 0, records, 1, RouterAlert())
                    : RawIp(source, At("224.0.0.22", "", 0), PROTOCOL_IGMP, records, 1, RouterAlert());
    }

    ByteVector GroupQuery() const
    {
        return v6() ? RawIcmp(Router(0), At("", "ff02::1", 0), 130, 0, ByteVector(24, 0), 1, RouterAlert())
                    : RawIp(Router(0), At("224.0.0.1", "", 0), PROTOCOL_IGMP, {0x11, 0, 0xEE, 0xFF, 0, 0, 0, 0}, 1,
                            RouterAlert());
    }

    // The flow as it is at the resolver or tunnel.
    Flow TargetOf(Flow flow, uint8_t verdict) const
    {
        const OPTIONS_WIRE options = Client::DefaultOptions();

        if (verdict == VerdictRedirectNameServer)
        {
            flow.local = Loopback(flow.local.port);
        }
        flow.remote = flow.local;
        flow.remote.port = verdict == VerdictRedirectNameServer ? options.DnsPort
                           : verdict == VerdictRedirectTunnel   ? options.TunnelPort
                                                                : options.SplitTunnelPort;
        return flow;
    }
};

struct Scene
{
    const char *name;
    void (Scenes::*play)();
};

// The order of the file.
constexpr Scene kScript[] = {
    {"tcp connects", &Scenes::TcpConnects},
    {"tcp arrives", &Scenes::TcpArrives},
    {"tcp of a peer on the link", &Scenes::TcpOfAPeerOnTheLink},
    {"stray resets", &Scenes::StrayResets},
    {"udp sends", &Scenes::UdpSends},
    {"udp arrives", &Scenes::UdpArrives},
    {"udp of a peer on the link", &Scenes::UdpOfAPeerOnTheLink},
    {"packets that nobody authorized", &Scenes::PacketsThatNobodyAuthorized},
    {"verdicts in another order", &Scenes::VerdictsInAnotherOrder},
    {"an end while a question waits", &Scenes::AnEndWhileAQuestionWaits},
    {"echoes that go out", &Scenes::EchoesThatGoOut},
    {"echoes that come in", &Scenes::EchoesThatComeIn},
    {"icmp errors", &Scenes::IcmpErrors},
    {"group membership", &Scenes::GroupMembership},
    {"neighbour discovery", &Scenes::NeighbourDiscovery},
    {"other protocols", &Scenes::OtherProtocols},
    {"dhcp", &Scenes::Dhcp},
    {"multicasts that go out", &Scenes::MulticastsThatGoOut},
    {"multicasts that come in", &Scenes::MulticastsThatComeIn},
    {"unicast answers to a multicast", &Scenes::UnicastAnswersToAMulticast},
    {"an answer that comes too late", &Scenes::AnAnswerThatComesTooLate},
    {"fragments in order", &Scenes::FragmentsInOrder},
    {"fragments of an unknown sender", &Scenes::FragmentsOfAnUnknownSender},
    {"a later fragment first", &Scenes::ALaterFragmentFirst},
    {"fragments without ports", &Scenes::FragmentsWithoutPorts},
    {"redirects of udp", &Scenes::RedirectsOfUdp},
    {"redirects of tcp", &Scenes::RedirectsOfTcp},
    {"redirects of the packet layer", &Scenes::RedirectsOfThePacketLayer},
    {"redirects of a link-local resolver", &Scenes::RedirectsOfALinkLocalResolver},
    {"loopback traffic", &Scenes::LoopbackTraffic},
    {"packets after the end", &Scenes::PacketsAfterTheEnd},
    {"releases of ports", &Scenes::ReleasesOfPorts},
    {"ports that are used again", &Scenes::PortsThatAreUsedAgain},
    {"updates", &Scenes::Updates},
    {"clear cache over a live connection", &Scenes::ClearCacheOverALiveConnection},
    {"clear cache while a question waits", &Scenes::ClearCacheWhileAQuestionWaits},
    {"bandwidth stats", &Scenes::BandwidthStats},
    {"ended connections are cleaned", &Scenes::EndedConnectionsAreCleaned},
    {"an idle connection is cleaned", &Scenes::AnIdleConnectionIsCleaned},
    {"other commands", &Scenes::OtherCommands},
    {"flows from before the attach", &Scenes::FlowsFromBeforeTheAttach},
    {"packets from before the attach", &Scenes::PacketsFromBeforeTheAttach},
    {"malformed packets", &Scenes::MalformedPackets},
    {"shutdown while questions wait", &Scenes::ShutdownWhileQuestionsWait},
};

// All that base clients have read, and which scene each record is of.
struct Recording
{
    ByteVector stream;
    std::vector<std::string> scenes;
};

Recording PlayAll()
{
    Recording recording;

    for (const Scene &scene : kScript)
    {
        for (const bool v6 : {false, true})
        {
            SCOPED_TRACE(std::string(scene.name) + (v6 ? " (IPv6)" : " (IPv4)"));
            Scenes session(v6);

            (session.*scene.play)();

            const ByteVector stream = session.End();

            recording.stream.insert(recording.stream.end(), stream.begin(), stream.end());
            recording.scenes.insert(recording.scenes.end(), AllRecords(stream).size(),
                                    std::string(scene.name) + (v6 ? " (IPv6)" : " (IPv4)"));
        }
    }
    return recording;
}

// Returns the first record that differs, of both streams.
std::string FirstDifference(const ByteVector &recorded, const Recording &played)
{
    const std::vector<Record> before = AllRecords(recorded);
    const std::vector<Record> now = AllRecords(played.stream);
    const auto text = [](const std::vector<Record> &records, size_t at)
    { return at < records.size() ? TextOf(records[at]) : std::string("the stream ends"); };
    size_t at = 0;

    while (at < before.size() && at < now.size() && before[at].type == now[at].type && before[at].body == now[at].body)
    {
        at++;
    }
    return "record " + std::to_string(at) + (at < now.size() ? ", scene '" + played.scenes[at] + "'" : "") +
           "\n  recorded: " + text(before, at) + "\n  now:      " + text(now, at);
}

ByteVector ReadFile()
{
    std::ifstream file(kFile, std::ios::binary);

    return ByteVector(std::istreambuf_iterator<char>(file), {});
}

TEST(BaseSessionTest, ABaseClientGetsTheRecordedBytes)
{
    const Recording played = PlayAll();

    if (std::getenv("NETVERDICT_RECORD") != nullptr)
    {
        std::ofstream(kFile, std::ios::binary)
            .write(reinterpret_cast<const char *>(played.stream.data()),
                   static_cast<std::streamsize>(played.stream.size()));
    }

    const ByteVector recorded = ReadFile();

    EXPECT_TRUE(recorded == played.stream) << FirstDifference(recorded, played);
}

TEST(BaseSessionTest, NothingInTheBytesIsRandom)
{
    const Recording first = PlayAll();
    const Recording second = PlayAll();

    EXPECT_TRUE(first.stream == second.stream) << FirstDifference(first.stream, second);
}

} // namespace
} // namespace kext_test
