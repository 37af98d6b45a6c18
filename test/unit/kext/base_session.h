// A session of a base client: the driver, its client, and what that client reads of each step of the network.
#pragma once

#include "support/address_text.h"
#include "support/driver_test.h"
#include "support/raw_packets.h"

#include <utility>

namespace kext_test
{

inline ByteVector Text(const std::string &text)
{
    return ByteVector(text.begin(), text.end());
}

// Every question of a step gets that step's verdict.
class BaseSession : public DriverTest
{
    // More rounds than any answer leads to.
    static constexpr int kMostRounds = 16;

  public:
    explicit BaseSession(bool v6) : v6_(v6) {}

    void TestBody() override {}

    // Ends the session. Returns all that the client has read.
    ByteVector End()
    {
        NTSTATUS status = STATUS_SUCCESS;

        EXPECT_EQ(client_.Command(CommandShutdown).status, STATUS_SUCCESS);
        machine_.Run();
        Keep(client_.ReadBytes(&status));
        EXPECT_EQ(status, STATUS_END_OF_FILE);
        return std::move(stream_);
    }

  protected:
    // ---- Who sends to whom

    Endpoint At(const char *v4, const char *v6, uint16_t port) const
    {
        Endpoint endpoint;

        endpoint.family = v6_ ? 6 : 4;
        endpoint.port = port;
        endpoint.address = ParseAddress(v6_ ? v6 : v4);
        return endpoint;
    }

    Endpoint Here(uint16_t port) const { return At("192.0.2.1", "2001:db8::1", port); }
    Endpoint There(uint16_t port) const { return At("198.51.100.7", "2001:db8:7::7", port); }
    Endpoint Loopback(uint16_t port) const { return At("127.0.0.1", "::1", port); }
    Endpoint Nobody(uint16_t port) const { return At("0.0.0.0", "::", port); }

    // On the local link.
    Endpoint LinkHere(uint16_t port) const { return At("192.0.2.1", "fe80::1", port); }
    Endpoint Neighbour(uint16_t port) const { return At("192.0.2.40", "fe80::40", port); }
    Endpoint Router(uint16_t port) const { return At("192.0.2.254", "fe80::ff", port); }
    Endpoint AllNodes(uint16_t port) const { return At("255.255.255.255", "ff02::1", port); }

    uint8_t icmp() const { return v6_ ? PROTOCOL_ICMPV6 : PROTOCOL_ICMP; }
    uint8_t echo_request() const { return v6_ ? 128 : 8; }
    uint8_t echo_reply() const { return v6_ ? 129 : 0; }
    ByteVector RouterAlert() const { return v6_ ? ByteVector{5, 2, 0, 0, 1, 0} : ByteVector{0x94, 4, 0, 0}; }

    // A flow of the next process, from the next port.
    Flow Next(uint8_t protocol, const Endpoint &remote)
    {
        next_++;
        return {protocol, Here(static_cast<uint16_t>(50000 + next_)), remote, 1000u + next_};
    }

    static ByteVector Sent(const Flow &flow, const std::string &payload)
    {
        return RawUdp(flow.local, flow.remote, Text(payload));
    }
    static ByteVector Received(const Flow &flow, const std::string &payload)
    {
        return RawUdp(flow.remote, flow.local, Text(payload));
    }
    static ByteVector Sent(const Flow &flow, uint8_t flags, const std::string &payload = {})
    {
        return RawTcp(flow.local, flow.remote, flags, Text(payload));
    }
    static ByteVector Received(const Flow &flow, uint8_t flags, const std::string &payload = {})
    {
        return RawTcp(flow.remote, flow.local, flags, Text(payload));
    }

    // ---- The client

    // Reads what can be read. Returns the questions in it.
    std::vector<Question> Read()
    {
        machine_.Run();

        const ByteVector bytes = client_.ReadBytes();
        std::vector<Question> questions;

        Keep(bytes);
        for (const Record &record : AllRecords(bytes))
        {
            if (IsQuestion(record))
            {
                questions.push_back(ParseQuestion(record));
            }
        }
        return questions;
    }

    // Answers every question, until none is left. Returns the packets that the driver injected.
    std::vector<Injected> Answer(uint8_t verdict)
    {
        std::vector<Injected> injected;

        for (int round = 0; round < kMostRounds; round++)
        {
            const std::vector<Question> questions = Read();

            if (questions.empty())
            {
                injected = network_.TakeInjected();
                network_.TakeReauthorized();
                return injected;
            }
            for (const Question &question : questions)
            {
                EXPECT_EQ(client_.Verdict(question.id, verdict).status, STATUS_SUCCESS);
            }
        }
        ADD_FAILURE() << "the driver does not stop asking";
        return injected;
    }

    void Command(const ByteVector &bytes)
    {
        EXPECT_EQ(client_.Write(bytes).status, STATUS_SUCCESS);
        Read();
        network_.TakeReauthorized();
    }

    // ---- The network. Each returns whether the packet or the operation goes on.

    bool Out(const ByteVector &packet, uint8_t verdict = VerdictAccept)
    {
        const bool permitted = network_.Outbound(packet).permitted();

        return !Answer(verdict).empty() || permitted;
    }

    bool In(const ByteVector &packet, uint8_t verdict = VerdictAccept, bool loopback = false)
    {
        const bool permitted = network_.Inbound(packet, loopback).permitted();

        return !Answer(verdict).empty() || permitted;
    }

    // After a pended connect Windows authorizes again, without a packet.
    bool Connect(const Flow &flow, const ByteVector *packet, uint8_t verdict, AleOptions options = {})
    {
        Network::Answer answer = network_.Connect(flow, packet, options);
        const bool pended = answer.pended();
        const bool injected = !Answer(verdict).empty();

        if (!pended)
        {
            return injected || answer.permitted();
        }
        EXPECT_EQ(answer.completed(), 1);
        options.reauthorize = true;
        answer = network_.Connect(flow, nullptr, options);
        Answer(verdict);
        return packet != nullptr ? injected : answer.permitted();
    }

    // Windows authorizes what arrives only after the packet layer has permitted it.
    bool Arrive(const Flow &flow, const ByteVector &packet, uint8_t verdict, const AleOptions &options = {})
    {
        return In(packet, verdict, options.loopback) && Accept(flow, packet, verdict, options);
    }

    bool Accept(const Flow &flow, const ByteVector &packet, uint8_t verdict, const AleOptions &options = {})
    {
        const bool permitted = network_.Accept(flow, &packet, options).permitted();

        return !Answer(verdict).empty() || permitted;
    }

    void Close(const Flow &flow)
    {
        network_.Close(flow);
        Read();
    }

    void Release(const Flow &flow)
    {
        network_.Release(flow.protocol, flow.local, flow.process_id);
        Read();
    }

    // The end of a UDP socket names no peer.
    void CloseSocket(Flow flow)
    {
        flow.remote = Nobody(0);
        Close(flow);
        Release(flow);
    }

    // Sends one datagram from a new socket.
    bool SendFirst(const Flow &flow, const std::string &payload, uint8_t verdict)
    {
        const ByteVector packet = Sent(flow, payload);

        if (network_.Connect(flow, &packet).pended())
        {
            const bool injected = !Answer(verdict).empty();
            AleOptions again;

            again.reauthorize = true;
            network_.Connect(flow, nullptr, again);
            Answer(verdict);
            return injected;
        }
        return Out(packet, verdict);
    }

    void Wait(std::chrono::nanoseconds duration)
    {
        Advance(duration);
        Read();
    }

    bool v6() const { return v6_; }

  private:
    void Keep(const ByteVector &bytes) { stream_.insert(stream_.end(), bytes.begin(), bytes.end()); }

    const bool v6_;
    uint16_t next_ = 0;
    ByteVector stream_;
};

} // namespace kext_test
