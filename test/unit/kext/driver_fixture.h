// The whole driver, loaded on a machine of its own: a client that drives it through the I/O manager, and a network that
// indicates at the filter engine's layers, one by one, and records what the driver injects.
#pragma once

#include "context.h"
#include "driver.h"

#include "machine.h"
#include "ndis/net_buffers.h"
#include "net/ip_packet.h"
#include "nt/clock.h"
#include "nt/fault_injection.h"
#include "nt/io_manager.h"
#include "nt/pool.h"
#include "nt/scheduler.h"
#include "support/observer.h"
#include "wfp/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace kext_test
{

using ByteVector = std::vector<uint8_t>;
using sim::net::Endpoint;
using sim::wfp::ClassifyResult;
using sim::wfp::Injection;

inline sim::MachineOptions StandingClock()
{
    sim::MachineOptions options;

    options.virtual_clock = true;
    options.worker = false;
    return options;
}

// ---- What the client reads

struct Record
{
    uint8_t type = 0;
    ByteVector body;

    template <typename T> T At(size_t offset) const
    {
        T value{};

        EXPECT_LE(offset + sizeof(T), body.size()) << "record of type " << int{type};
        if (offset + sizeof(T) <= body.size())
        {
            std::memcpy(&value, body.data() + offset, sizeof(T));
        }
        return value;
    }

    std::string Text(size_t offset) const { return std::string(body.begin() + offset, body.end()); }
};

inline std::vector<Record> SplitRecords(const ByteVector &stream)
{
    std::vector<Record> records;
    size_t at = 0;

    while (at + sizeof(INFO_HEADER_WIRE) <= stream.size())
    {
        uint32_t length;

        std::memcpy(&length, stream.data() + at + 1, sizeof(length));
        EXPECT_LE(length, stream.size() - at - sizeof(INFO_HEADER_WIRE));
        if (length > stream.size() - at - sizeof(INFO_HEADER_WIRE))
        {
            break;
        }
        const auto body = stream.begin() + static_cast<ptrdiff_t>(at + sizeof(INFO_HEADER_WIRE));

        records.push_back({stream[at], ByteVector(body, body + length)});
        at += sizeof(INFO_HEADER_WIRE) + length;
    }
    EXPECT_EQ(at, stream.size()) << "the stream ends within a record";
    return records;
}

// A ConnectionV4 or ConnectionV6 record.
struct Question
{
    uint64_t id = 0;
    uint64_t process_id = 0;
    uint8_t direction = 0;
    uint8_t protocol = 0;
    ByteVector local_address;
    ByteVector remote_address;
    uint16_t local_port = 0;
    uint16_t remote_port = 0;
    uint8_t payload_layer = 0;
    ByteVector payload;
};

inline Question ParseQuestion(const Record &record)
{
    const size_t length = record.type == InfoConnectionV6 ? 16 : 4;
    const size_t ports = 18 + 2 * length;
    Question question;

    question.id = record.At<uint64_t>(0);
    question.process_id = record.At<uint64_t>(8);
    question.direction = record.At<uint8_t>(16);
    question.protocol = record.At<uint8_t>(17);
    question.local_address.assign(record.body.begin() + 18, record.body.begin() + 18 + length);
    question.remote_address.assign(record.body.begin() + 18 + length, record.body.begin() + ports);
    question.local_port = record.At<uint16_t>(ports);
    question.remote_port = record.At<uint16_t>(ports + 2);
    question.payload_layer = record.At<uint8_t>(ports + 4);
    EXPECT_EQ(record.At<uint32_t>(ports + 5), record.body.size() - ports - 9);
    question.payload.assign(record.body.begin() + ports + 9, record.body.end());
    return question;
}

// ---- The client

// STATISTICS_WIRE without its first field, aligned.
struct Statistics
{
    uint64_t EventsQueued, EventsDelivered, EventsLost, BytesDelivered, ReadsCompleted, VerdictsApplied,
        VerdictsUnknownId, CommandsRejected, PacketsHeld, Connections, BandwidthEntries, PoolBytes, PoolBytesPeak,
        PacketsPermitted, PacketsBlocked, PacketsInjected, InjectFailures, PacketsRedirected, FragmentsBlocked,
        MalformedPackets;
};

static_assert(sizeof(Statistics) == sizeof(STATISTICS_WIRE) - sizeof(uint32_t), "the same counters");

class Client
{
  public:
    explicit Client(sim::Machine &machine) : machine_(machine), io_(machine.io()) {}
    ~Client() { Close(); }

    Client(const Client &) = delete;
    Client &operator=(const Client &) = delete;

    NTSTATUS Open(const std::u16string &name = u"\\\\.\\NetVerdict")
    {
        const NTSTATUS status = io_.Open(name, &file_);

        if (NT_SUCCESS(status))
        {
            observed_ = true;
            observer_.Opened(Observed(GetStatistics()));
        }
        return status;
    }

    void Close()
    {
        if (file_ != nullptr)
        {
            CheckInvariants();
            observer_.OthersMayDecide();
            io_.Close(std::exchange(file_, nullptr));
        }
    }

    sim::nt::File *file() { return file_; }
    netverdict_test::Observer &observer() { return observer_; }

    // The test reads or writes past this client.
    void StopObserving() { observed_ = false; }

    // Whether the driver kept its invariants. Reads what is left.
    void CheckInvariants()
    {
        if (file_ == nullptr || !observed_)
        {
            return;
        }
        Statistics statistics;
        uint64_t queued;

        // Until nothing is queued meanwhile, by a worker that is still at it.
        do
        {
            queued = GetStatistics().EventsQueued;
            ReadAllThatIsLeft();
            statistics = GetStatistics();
        } while (statistics.EventsQueued != queued);
        for (const std::string &problem : observer_.Problems(Observed(statistics)))
        {
            std::fprintf(stderr, "INVARIANT %s\n", problem.c_str()); // harm also where a call was made to fail
            ADD_FAILURE() << problem;
        }
    }

    // Everything that can be read now. `status` gets the last read's, if it completed by itself.
    ByteVector ReadBytes(NTSTATUS *status = nullptr)
    {
        ByteVector buffer(1 << 16);
        ByteVector stream;

        for (;;)
        {
            Pending read;
            sim::nt::Request *request =
                io_.Read(file_, buffer.data(), static_cast<uint32_t>(buffer.size()), &Pending::Complete, &read);

            if (!read.done)
            {
                io_.Cancel(file_, request);
                // Another thread may be filling it at this moment.
                while (!read.done)
                {
                    std::this_thread::yield();
                }
            }
            if (read.status == STATUS_CANCELLED)
            {
                return stream;
            }
            if (!NT_SUCCESS(read.status))
            {
                if (status != nullptr)
                {
                    *status = read.status;
                }
                return stream;
            }
            observer_.Read(buffer.data(), read.information);
            stream.insert(stream.end(), buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(read.information));
        }
    }

    std::vector<Record> Read() { return SplitRecords(ReadBytes()); }

    std::vector<Record> ReadType(uint8_t type)
    {
        std::vector<Record> all = Read();
        std::vector<Record> wanted;

        for (Record &record : all)
        {
            if (record.type == type)
            {
                wanted.push_back(std::move(record));
            }
        }
        return wanted;
    }

    std::vector<Question> ReadQuestions()
    {
        std::vector<Question> questions;

        for (const Record &record : Read())
        {
            if (record.type == InfoConnectionV4 || record.type == InfoConnectionV6)
            {
                questions.push_back(ParseQuestion(record));
            }
        }
        return questions;
    }

    // Exactly one question must have come.
    Question ReadQuestion()
    {
        std::vector<Question> questions = ReadQuestions();

        EXPECT_EQ(questions.size(), 1u);
        return questions.empty() ? Question{} : questions.front();
    }

    std::vector<std::string> GetLogs()
    {
        std::vector<std::string> lines;

        EXPECT_EQ(Command(CommandGetLogs).status, STATUS_SUCCESS);
        for (const Record &record : Read())
        {
            if (record.type == InfoLogLine)
            {
                lines.push_back(record.Text(1));
            }
        }
        return lines;
    }

    sim::nt::IoResult Write(const ByteVector &bytes)
    {
        observer_.Writes(bytes.data(), bytes.size());
        const sim::nt::IoResult result = io_.WriteAndWait(file_, bytes.data(), static_cast<uint32_t>(bytes.size()));

        observer_.Wrote(bytes.data(), bytes.size(), result.information);
        return result;
    }

    sim::nt::IoResult Command(uint8_t command) { return Write({command}); }

    static ByteVector VerdictBytes(uint64_t id, uint8_t verdict)
    {
        COMMAND_VERDICT_WIRE wire{CommandVerdict, id, verdict};
        const auto *bytes = reinterpret_cast<const uint8_t *>(&wire);

        return ByteVector(bytes, bytes + sizeof(wire));
    }

    sim::nt::IoResult Verdict(uint64_t id, uint8_t verdict) { return Write(VerdictBytes(id, verdict)); }

    sim::nt::IoResult Control(uint32_t code, const ByteVector &in, ByteVector *out)
    {
        observer_.Controls(code, in.data(), in.size());
        const sim::nt::IoResult result = io_.DeviceControlAndWait(
            file_, code, in.data(), static_cast<uint32_t>(in.size()), out->data(), static_cast<uint32_t>(out->size()));

        if (NT_SUCCESS(result.status))
        {
            out->resize(result.information);
        }
        if (NT_SUCCESS(result.status) && code == IOCTL_NETVERDICT_SET_OPTIONS)
        {
            observer_.TookOptions(in.data(), in.size(), Observed(GetStatistics()));
        }
        return result;
    }

    static OPTIONS_WIRE DefaultOptions()
    {
        OPTIONS options;

        OptionsSetDefaults(&options);
        return options;
    }

    NTSTATUS SetOptions(const OPTIONS_WIRE &options)
    {
        const auto *bytes = reinterpret_cast<const uint8_t *>(&options);
        ByteVector out;

        return Control(IOCTL_NETVERDICT_SET_OPTIONS, ByteVector(bytes, bytes + sizeof(options)), &out).status;
    }

    Statistics GetStatistics()
    {
        ByteVector out(sizeof(STATISTICS_WIRE));
        Statistics statistics;

        EXPECT_EQ(Control(IOCTL_NETVERDICT_GET_STATISTICS, {}, &out).status, STATUS_SUCCESS);
        EXPECT_EQ(out.size(), sizeof(STATISTICS_WIRE));
        std::memcpy(&statistics, out.data() + sizeof(uint32_t), sizeof(statistics));
        return statistics;
    }

  private:
    netverdict_test::Observer::Counters Observed(const Statistics &statistics) const
    {
        return {statistics.EventsQueued,         statistics.EventsDelivered,   statistics.EventsLost,
                statistics.VerdictsApplied,      statistics.VerdictsUnknownId, statistics.PacketsHeld,
                machine_.faults().all_failures()};
    }

    // A read that was made to fail takes nothing.
    void ReadAllThatIsLeft()
    {
        NTSTATUS status;

        do
        {
            status = STATUS_SUCCESS;
            ReadBytes(&status);
        } while (status == STATUS_INSUFFICIENT_RESOURCES);
    }

    struct Pending
    {
        std::atomic<bool> done{false};
        NTSTATUS status = STATUS_PENDING;
        uint64_t information = 0;

        static void Complete(void *context, NTSTATUS status, uint64_t information)
        {
            auto *pending = static_cast<Pending *>(context);

            pending->status = status;
            pending->information = information;
            pending->done = true;
        }
    };

    sim::Machine &machine_;
    sim::nt::IoManager &io_;
    sim::nt::File *file_ = nullptr;
    netverdict_test::Observer observer_;
    bool observed_ = false;
};

// ---- Packets

inline Endpoint V4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port)
{
    Endpoint endpoint;

    endpoint.family = 4;
    endpoint.address = {a, b, c, d};
    endpoint.port = port;
    return endpoint;
}

inline Endpoint V6(uint8_t last, uint16_t port)
{
    Endpoint endpoint;

    endpoint.family = 6;
    endpoint.address = {0x20, 0x01, 0x0d, 0xb8};
    endpoint.address[15] = last;
    endpoint.port = port;
    return endpoint;
}

struct Flow
{
    uint8_t protocol = PROTOCOL_TCP;
    Endpoint local = V4(192, 0, 2, 1, 50000);
    Endpoint remote = V4(198, 51, 100, 7, 443);
    uint64_t process_id = 1234;

    uint8_t family() const { return local.family; }
};

inline Flow TcpV6()
{
    return {PROTOCOL_TCP, V6(1, 50000), V6(7, 443), 1234};
}
inline Flow UdpV4()
{
    return {PROTOCOL_UDP, V4(192, 0, 2, 1, 50001), V4(198, 51, 100, 7, 53), 1234};
}
inline Flow UdpV6()
{
    return {PROTOCOL_UDP, V6(1, 50001), V6(7, 53), 1234};
}

inline ByteVector Payload(size_t length = 16)
{
    ByteVector bytes(length);

    for (size_t i = 0; i < length; i++)
    {
        bytes[i] = static_cast<uint8_t>('a' + i % 26);
    }
    return bytes;
}

// A whole IP packet of the flow.
inline ByteVector MakePacket(const Flow &flow, bool inbound = false, const ByteVector &payload = Payload())
{
    const Endpoint &source = inbound ? flow.remote : flow.local;
    const Endpoint &destination = inbound ? flow.local : flow.remote;
    ByteVector packet(100 + payload.size());
    size_t length;

    if (flow.protocol == PROTOCOL_TCP)
    {
        length = sim::net::WriteTcpPacket(packet.data(), source, destination, {1, 1, sim::net::kTcpAck}, payload.data(),
                                          payload.size());
    }
    else if (flow.protocol == PROTOCOL_UDP)
    {
        length = sim::net::WriteUdpPacket(packet.data(), source, destination, payload.data(), payload.size());
    }
    else
    {
        length = sim::net::WriteEchoPacket(packet.data(), source, destination, true, payload.data(), payload.size());
    }
    packet.resize(length);
    return packet;
}

// The part of a whole packet's IP payload from `start` on, as a fragment of the datagram `id`.
inline ByteVector Fragment(const ByteVector &packet, size_t start, size_t length, uint32_t id = 1)
{
    const bool v6 = packet[0] >> 4 == 6;
    const size_t header = v6 ? 40 : 20;
    const bool more = header + start + length < packet.size();
    const auto end = packet.begin() + static_cast<ptrdiff_t>(std::min(header + start + length, packet.size()));
    const auto put = [](ByteVector *bytes, size_t at, size_t value)
    {
        (*bytes)[at] = static_cast<uint8_t>(value >> 8);
        (*bytes)[at + 1] = static_cast<uint8_t>(value);
    };
    ByteVector fragment(packet.begin(), packet.begin() + static_cast<ptrdiff_t>(header));

    if (v6)
    {
        fragment.insert(fragment.end(), {packet[6], 0, 0, 0, 0, 0, 0, 0});
        fragment[6] = 44;
        put(&fragment, 42, start | (more ? 1 : 0));
        put(&fragment, 46, id);
    }
    fragment.insert(fragment.end(), packet.begin() + static_cast<ptrdiff_t>(header + start), end);
    if (v6)
    {
        put(&fragment, 4, fragment.size() - 40);
        return fragment;
    }
    put(&fragment, 2, fragment.size());
    put(&fragment, 4, id);
    put(&fragment, 6, start / 8 | (more ? 0x2000 : 0));
    put(&fragment, 10, 0);

    uint32_t sum = 0;
    for (size_t i = 0; i < 20; i += 2)
    {
        sum += static_cast<uint32_t>(fragment[i] << 8 | fragment[i + 1]);
    }
    sum = (sum & 0xFFFF) + (sum >> 16);
    put(&fragment, 10, ~((sum & 0xFFFF) + (sum >> 16)));
    return fragment;
}

// The Update command.
inline ByteVector UpdateBytes(const Flow &flow, uint8_t verdict)
{
    const size_t length = flow.family() == 6 ? 16 : 4;
    ByteVector bytes = {static_cast<uint8_t>(flow.family() == 6 ? CommandUpdateV6 : CommandUpdateV4), flow.protocol};

    for (const Endpoint *endpoint : {&flow.local, &flow.remote})
    {
        bytes.insert(bytes.end(), endpoint->address.begin(),
                     endpoint->address.begin() + static_cast<ptrdiff_t>(length));
        bytes.push_back(static_cast<uint8_t>(endpoint->port));
        bytes.push_back(static_cast<uint8_t>(endpoint->port >> 8));
    }
    bytes.push_back(verdict);
    return bytes;
}

inline bool ChecksumsAreRight(const ByteVector &packet)
{
    sim::net::IpPacketInfo info;

    return sim::net::ParseIpPacket(packet.data(), packet.size(), &info) &&
           sim::net::ChecksumsAreRight(packet.data(), info);
}

// A chain of net buffer lists of the stack's. The outer vector: lists; the inner: their net buffers. The data starts
// `start` bytes into each packet. Scattered: each buffer's bytes lie in pieces of `piece` bytes (0: in one).
class PacketChain
{
  public:
    PacketChain(sim::Machine &machine, const std::vector<std::vector<ByteVector>> &lists, uint32_t start = 0,
                size_t piece = 0)
        : buffers_(machine.net_buffers())
    {
        for (const std::vector<ByteVector> &list : lists)
        {
            Append(list, start, piece);
        }
    }

    ~PacketChain()
    {
        for (NET_BUFFER_LIST *list : lists_)
        {
            list->Next = nullptr;
            buffers_.Free(list);
        }
        for (PMDL mdl : mdls_)
        {
            IoFreeMdl(mdl);
        }
        for (void *block : blocks_)
        {
            ExFreePoolWithTag(block, kTag);
        }
    }

    PacketChain(const PacketChain &) = delete;
    PacketChain &operator=(const PacketChain &) = delete;

    NET_BUFFER_LIST *head() { return lists_.front(); }

  private:
    static constexpr ULONG kTag = 'tseT';

    PMDL MakeMdl(const uint8_t *bytes, size_t length)
    {
        void *block = ExAllocatePoolWithTag(NonPagedPoolNx, length, kTag);
        PMDL mdl = IoAllocateMdl(block, static_cast<ULONG>(length), FALSE, FALSE, nullptr);

        std::memcpy(block, bytes, length);
        MmBuildMdlForNonPagedPool(mdl);
        blocks_.push_back(block);
        mdls_.push_back(mdl);
        return mdl;
    }

    PMDL MakeMdlChain(const ByteVector &packet, size_t piece)
    {
        const size_t step = piece == 0 ? packet.size() : piece;
        PMDL first = nullptr;
        PMDL *last = &first;

        for (size_t at = 0; at < packet.size(); at += step)
        {
            *last = MakeMdl(packet.data() + at, std::min(step, packet.size() - at));
            last = &(*last)->Next;
        }
        return first;
    }

    void Append(const std::vector<ByteVector> &packets, uint32_t start, size_t piece)
    {
        NET_BUFFER_LIST *list = nullptr;

        for (const ByteVector &packet : packets)
        {
            PMDL mdl = MakeMdlChain(packet, piece);

            if (list == nullptr)
            {
                list = buffers_.Allocate(buffers_.stack_pool(), 0, 0, mdl, start, packet.size() - start);
            }
            else
            {
                buffers_.AddNetBuffer(list, mdl, start, packet.size() - start);
            }
        }
        if (!lists_.empty())
        {
            lists_.back()->Next = list;
        }
        lists_.push_back(list);
    }

    sim::ndis::NetBuffers &buffers_;
    std::vector<NET_BUFFER_LIST *> lists_;
    std::vector<PMDL> mdls_;
    std::vector<void *> blocks_;
};

// ---- The network

// What the driver put back into the stack.
struct Injected
{
    Injection::Kind kind = Injection::kNetworkSend;
    ByteVector bytes;
    uint32_t compartment = 0;
    IF_INDEX interface_index = 0;
    IF_INDEX sub_interface_index = 0;
    uint64_t endpoint_handle = 0;
    std::array<uint8_t, 16> remote_address{};
    uint32_t remote_scope = 0;
    ByteVector control_data;
    ByteVector header_include;
    bool decided_permit = false; // of the classify of the injected packet, where one was made
};

class Network : public sim::wfp::InjectionTarget, public sim::wfp::Reauthorizer
{
  public:
    static constexpr uint32_t kCompartment = 3;
    static constexpr IF_INDEX kInterface = 11;
    static constexpr IF_INDEX kSubInterface = 12;
    static constexpr uint64_t kEndpoint = 0xABCDEF;
    static constexpr uint32_t kScope = 0x70000005;

    explicit Network(sim::Machine &machine) : machine_(machine)
    {
        machine_.wfp().SetInjectionTarget(this);
        machine_.wfp().SetReauthorizer(this);
    }

    ~Network() override
    {
        machine_.wfp().SetInjectionTarget(nullptr);
        machine_.wfp().SetReauthorizer(nullptr);
    }

    // Who is told of every packet that the driver injects at the network layer.
    void SetObserver(netverdict_test::Observer *observer) { observer_ = observer; }

    // One answer of the filter engine, and what became of the operation if it was pended.
    struct Answer
    {
        ClassifyResult result;
        std::shared_ptr<int> completions = std::make_shared<int>(0);
        std::shared_ptr<ByteVector> completed_with = std::make_shared<ByteVector>(); // the packet; empty: none

        bool permitted() const { return result.action == ClassifyResult::kPermit; }
        bool blocked() const { return result.action == ClassifyResult::kBlock && !result.absorbed; }
        bool absorbed() const { return result.action == ClassifyResult::kBlock && result.absorbed; }
        bool pended() const { return result.pended; }
        int completed() const { return *completions; }
    };

    struct AleOptions
    {
        bool reauthorize = false;
        bool loopback = false;
        std::optional<FWP_DIRECTION> packet_direction;
        std::u16string process_path;
        ByteVector control_data;
        ByteVector header_include;
        std::vector<ByteVector> more_packets;            // in net buffers of the same list
        std::vector<std::vector<ByteVector>> more_lists; // in the same chain
    };

    // ALE_AUTH_CONNECT. `packet`: a whole IP packet of the flow, of which the layer shows what it does on Windows.
    Answer Connect(const Flow &flow) { return Connect(flow, nullptr, {}); }
    Answer Connect(const Flow &flow, const ByteVector *packet, const AleOptions &options)
    {
        return Authorize(flow, true, packet, options);
    }

    // ALE_AUTH_RECV_ACCEPT.
    Answer Accept(const Flow &flow, const ByteVector *packet) { return Accept(flow, packet, {}); }
    Answer Accept(const Flow &flow, const ByteVector *packet, const AleOptions &options)
    {
        return Authorize(flow, false, packet, options);
    }

    Answer Outbound(const ByteVector &packet) { return Outbound(std::vector<std::vector<ByteVector>>{{packet}}); }
    Answer Outbound(const std::vector<std::vector<ByteVector>> &lists, size_t piece = 0)
    {
        PacketChain chain(machine_, lists, 0, piece);

        return OutboundChain(IsV6(lists[0][0]), chain.head());
    }

    Answer Inbound(const ByteVector &packet, bool loopback = false)
    {
        return Inbound(std::vector<std::vector<ByteVector>>{{packet}}, loopback);
    }
    Answer Inbound(const std::vector<std::vector<ByteVector>> &lists, bool loopback = false, size_t piece = 0)
    {
        const uint32_t header = HeaderLength(lists[0][0]);
        const bool v6 = IsV6(lists[0][0]);
        const uint32_t flags = loopback ? FWP_CONDITION_FLAG_IS_LOOPBACK : 0;
        PacketChain chain(machine_, lists, header, piece);
        const Answer answer = InboundChain(v6, chain.head(), header, flags);

        // Those that may pass come again as fragments, before they are put together.
        return answer.permitted() && IsFragment(lists[0][0])
                   ? InboundChain(v6, chain.head(), header, flags | FWP_CONDITION_FLAG_IS_FRAGMENT)
                   : answer;
    }

    // What the fragments that were let in have become.
    Answer Reassembled(const ByteVector &packet)
    {
        const uint32_t header = HeaderLength(packet);
        PacketChain chain(machine_, {{packet}}, header);

        return InboundChain(IsV6(packet), chain.head(), header, FWP_CONDITION_FLAG_IS_REASSEMBLED);
    }

    Answer OutboundChain(bool v6, NET_BUFFER_LIST *chain)
    {
        Indication indication(v6 ? FWPS_LAYER_OUTBOUND_IPPACKET_V6 : FWPS_LAYER_OUTBOUND_IPPACKET_V4,
                              FWPS_FIELD_OUTBOUND_IPPACKET_V4_MAX);

        indication.SetUint32(FWPS_FIELD_OUTBOUND_IPPACKET_V4_INTERFACE_INDEX, kInterface);
        indication.SetUint32(FWPS_FIELD_OUTBOUND_IPPACKET_V4_SUB_INTERFACE_INDEX, kSubInterface);
        indication.SetUint32(FWPS_FIELD_OUTBOUND_IPPACKET_V4_FLAGS, 0);
        indication.SetCompartment(kCompartment);
        return Classify(indication, chain, false);
    }

    // `flags`: FWP_CONDITION_FLAG_....
    Answer InboundChain(bool v6, NET_BUFFER_LIST *chain, uint32_t header, uint32_t flags)
    {
        Indication indication(v6 ? FWPS_LAYER_INBOUND_IPPACKET_V6 : FWPS_LAYER_INBOUND_IPPACKET_V4,
                              FWPS_FIELD_INBOUND_IPPACKET_V4_MAX);

        indication.SetUint32(FWPS_FIELD_INBOUND_IPPACKET_V4_INTERFACE_INDEX, kInterface);
        indication.SetUint32(FWPS_FIELD_INBOUND_IPPACKET_V4_SUB_INTERFACE_INDEX, kSubInterface);
        indication.SetUint32(FWPS_FIELD_INBOUND_IPPACKET_V4_FLAGS, flags);
        indication.SetCompartment(kCompartment);
        indication.metadata.ipHeaderSize = header;
        indication.metadata.currentMetadataValues |= FWPS_METADATA_FIELD_IP_HEADER_SIZE;
        return Classify(indication, chain, false);
    }

    void Close(const Flow &flow)
    {
        Indication indication(flow.family() == 6 ? FWPS_LAYER_ALE_ENDPOINT_CLOSURE_V6
                                                 : FWPS_LAYER_ALE_ENDPOINT_CLOSURE_V4,
                              FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_MAX);

        indication.SetAddress(FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_LOCAL_ADDRESS, flow.local);
        indication.SetUint16(FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_LOCAL_PORT, flow.local.port);
        indication.SetUint8(FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_PROTOCOL, flow.protocol);
        indication.SetAddress(FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_REMOTE_ADDRESS, flow.remote);
        indication.SetUint16(FWPS_FIELD_ALE_ENDPOINT_CLOSURE_V4_IP_REMOTE_PORT, flow.remote.port);
        EXPECT_TRUE(Classify(indication, nullptr, false).permitted());
    }

    // `local` with a zero address, or without one, stands for a wildcard bind. `process_id`: 0 is left out.
    void Release(uint8_t protocol, const Endpoint &local, uint64_t process_id = 0)
    {
        Indication indication(local.family == 6 ? FWPS_LAYER_ALE_RESOURCE_RELEASE_V6
                                                : FWPS_LAYER_ALE_RESOURCE_RELEASE_V4,
                              FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_MAX);

        indication.SetAddress(FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_IP_LOCAL_ADDRESS, local);
        indication.SetUint16(FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_IP_LOCAL_PORT, local.port);
        indication.SetUint8(FWPS_FIELD_ALE_RESOURCE_RELEASE_V4_IP_PROTOCOL, protocol);
        if (process_id != 0)
        {
            indication.SetProcess(process_id, nullptr);
        }
        EXPECT_TRUE(Classify(indication, nullptr, false).permitted());
    }

    void Bind(uint8_t protocol, const Endpoint &local, uint64_t process_id)
    {
        Indication indication(local.family == 6 ? FWPS_LAYER_ALE_RESOURCE_ASSIGNMENT_V6
                                                : FWPS_LAYER_ALE_RESOURCE_ASSIGNMENT_V4,
                              FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_MAX);

        indication.SetAddress(FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_LOCAL_ADDRESS, local);
        indication.SetUint16(FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_LOCAL_PORT, local.port);
        indication.SetUint8(FWPS_FIELD_ALE_RESOURCE_ASSIGNMENT_V4_IP_PROTOCOL, protocol);
        indication.SetProcess(process_id, nullptr);
        EXPECT_TRUE(Classify(indication, nullptr, false).permitted());
    }

    // TCP payload at STREAM.
    void Stream(const Flow &flow, bool inbound, size_t bytes)
    {
        Indication indication(flow.family() == 6 ? FWPS_LAYER_STREAM_V6 : FWPS_LAYER_STREAM_V4,
                              FWPS_FIELD_STREAM_V4_MAX);
        FWPS_STREAM_DATA0 data{};
        FWPS_STREAM_CALLOUT_IO_PACKET0 packet{};

        indication.SetAddress(FWPS_FIELD_STREAM_V4_IP_LOCAL_ADDRESS, flow.local);
        indication.SetAddress(FWPS_FIELD_STREAM_V4_IP_REMOTE_ADDRESS, flow.remote);
        indication.SetUint16(FWPS_FIELD_STREAM_V4_IP_LOCAL_PORT, flow.local.port);
        indication.SetUint16(FWPS_FIELD_STREAM_V4_IP_REMOTE_PORT, flow.remote.port);
        data.flags = inbound ? FWPS_STREAM_FLAG_RECEIVE : FWPS_STREAM_FLAG_SEND;
        data.dataLength = bytes;
        packet.streamData = &data;
        EXPECT_TRUE(Classify(indication, &packet, false).permitted());
        EXPECT_EQ(packet.streamAction, FWPS_STREAM_ACTION_NONE);
    }

    // UDP datagrams (whole packets) in one chain at DATAGRAM_DATA, from where the layer shows them.
    void Datagrams(const Flow &flow, bool inbound, const std::vector<std::vector<ByteVector>> &lists)
    {
        Indication indication(flow.family() == 6 ? FWPS_LAYER_DATAGRAM_DATA_V6 : FWPS_LAYER_DATAGRAM_DATA_V4,
                              FWPS_FIELD_DATAGRAM_DATA_V4_MAX);
        PacketChain chain(machine_, lists, HeaderLength(lists[0][0]) + (inbound ? 8 : 0));

        indication.SetUint8(FWPS_FIELD_DATAGRAM_DATA_V4_IP_PROTOCOL, flow.protocol);
        indication.SetAddress(FWPS_FIELD_DATAGRAM_DATA_V4_IP_LOCAL_ADDRESS, flow.local);
        indication.SetAddress(FWPS_FIELD_DATAGRAM_DATA_V4_IP_REMOTE_ADDRESS, flow.remote);
        indication.SetUint16(FWPS_FIELD_DATAGRAM_DATA_V4_IP_LOCAL_PORT, flow.local.port);
        indication.SetUint16(FWPS_FIELD_DATAGRAM_DATA_V4_IP_REMOTE_PORT, flow.remote.port);
        indication.SetUint32(FWPS_FIELD_DATAGRAM_DATA_V4_DIRECTION,
                             inbound ? FWP_DIRECTION_INBOUND : FWP_DIRECTION_OUTBOUND);
        EXPECT_TRUE(Classify(indication, chain.head(), false).permitted());
    }

    // What has been injected since the last call, in order. Runs what is left to run.
    std::vector<Injected> TakeInjected()
    {
        machine_.Run();

        const std::lock_guard<std::mutex> lock(mutex_);
        return std::exchange(injected_, {});
    }

    // Calls of the filter engine to authorize again, by layer, since the last call.
    std::vector<uint16_t> TakeReauthorized()
    {
        machine_.Run();

        const std::lock_guard<std::mutex> lock(mutex_);
        return std::exchange(reauthorized_, {});
    }

    // From now on the call number `n` that may fail fails, of those within classifies; `all`: every one. The packets
    // themselves are made by the stack, whose calls do not count.
    void FailNth(uint64_t n, bool all = false)
    {
        fail_nth_ = n;
        fail_all_ = all;
        failing_ = true;
        failures_ = 0;
    }

    // Ends it. Returns how many calls have failed.
    uint64_t StopFailing()
    {
        failing_ = false;
        return failures_;
    }

    NTSTATUS Deliver(const Injection &injection) override
    {
        Injected injected;
        NET_BUFFER *buffer = injection.net_buffer_list->FirstNetBuffer;

        injected.kind = injection.kind;
        injected.compartment = injection.compartment;
        injected.interface_index = injection.interface_index;
        injected.sub_interface_index = injection.sub_interface_index;
        injected.endpoint_handle = injection.endpoint_handle;
        injected.remote_address = injection.remote_address;
        injected.remote_scope = injection.remote_scope.Value;
        if (injection.control_data_length != 0)
        {
            const auto *control = reinterpret_cast<const uint8_t *>(injection.control_data);

            injected.control_data.assign(control, control + injection.control_data_length);
        }
        if (injection.header_include_length != 0)
        {
            injected.header_include.assign(injection.header_include,
                                           injection.header_include + injection.header_include_length);
        }
        injected.bytes = BytesOf(buffer);
        if (observer_ != nullptr &&
            (injection.kind == Injection::kNetworkSend || injection.kind == Injection::kNetworkReceive))
        {
            observer_->LetsOut(injected.bytes.data(), injected.bytes.size());
        }
        injected.decided_permit = ClassifyInjected(injection);

        const std::lock_guard<std::mutex> lock(mutex_);
        injected_.push_back(std::move(injected));
        return STATUS_SUCCESS;
    }

    void FiltersChanged(uint16_t layer) override
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        reauthorized_.push_back(layer);
    }

    static ByteVector BytesOf(NET_BUFFER *buffer)
    {
        ByteVector storage(buffer->DataLength);
        const auto *bytes =
            static_cast<const uint8_t *>(NdisGetDataBuffer(buffer, buffer->DataLength, storage.data(), 1, 0));

        return ByteVector(bytes, bytes + buffer->DataLength);
    }

    static bool IsV6(const ByteVector &packet) { return !packet.empty() && packet[0] >> 4 == 6; }

    static bool IsFragment(const ByteVector &packet)
    {
        sim::net::IpPacketInfo info;

        return sim::net::ParseIpPacket(packet.data(), packet.size(), &info) && info.fragment;
    }

    static uint32_t HeaderLength(const ByteVector &packet)
    {
        sim::net::IpPacketInfo info;

        return sim::net::ParseIpPacket(packet.data(), packet.size(), &info) ? info.ip_header_size
                                                                            : (IsV6(packet) ? 40u : 20u);
    }

  private:
    // The arguments of one classify.
    struct Indication
    {
        Indication(uint16_t layer_id, uint32_t count)
        {
            values.layerId = layer_id;
            values.valueCount = count;
            values.incomingValue = fields.data();
        }

        void SetUint8(uint32_t index, uint8_t value)
        {
            fields[index].value.type = FWP_UINT8;
            fields[index].value.uint8 = value;
        }

        void SetUint16(uint32_t index, uint16_t value)
        {
            fields[index].value.type = FWP_UINT16;
            fields[index].value.uint16 = value;
        }

        void SetUint32(uint32_t index, uint32_t value)
        {
            fields[index].value.type = FWP_UINT32;
            fields[index].value.uint32 = value;
        }

        void SetAddress(uint32_t index, const Endpoint &endpoint)
        {
            if (endpoint.family == 6)
            {
                FWP_BYTE_ARRAY16 &bytes = addresses[address_count++];

                std::memcpy(bytes.byteArray16, endpoint.address.data(), 16);
                fields[index].value.type = FWP_BYTE_ARRAY16_TYPE;
                fields[index].value.byteArray16 = &bytes;
                return;
            }
            SetUint32(index, static_cast<uint32_t>(endpoint.address[0]) << 24 |
                                 static_cast<uint32_t>(endpoint.address[1]) << 16 |
                                 static_cast<uint32_t>(endpoint.address[2]) << 8 | endpoint.address[3]);
        }

        void SetCompartment(uint32_t compartment)
        {
            metadata.compartmentId = compartment;
            metadata.currentMetadataValues |= FWPS_METADATA_FIELD_COMPARTMENT_ID;
        }

        void SetProcess(uint64_t process_id, const std::u16string *path)
        {
            metadata.processId = process_id;
            metadata.currentMetadataValues |= FWPS_METADATA_FIELD_PROCESS_ID;
            if (path != nullptr && !path->empty())
            {
                blob.data = reinterpret_cast<UINT8 *>(const_cast<char16_t *>(path->data()));
                blob.size = static_cast<UINT32>(path->size() * sizeof(char16_t));
                metadata.processPath = &blob;
                metadata.currentMetadataValues |= FWPS_METADATA_FIELD_PROCESS_PATH;
            }
        }

        std::array<FWPS_INCOMING_VALUE0, FWPS_FIELD_ALE_AUTH_CONNECT_V4_MAX> fields{};
        FWPS_INCOMING_VALUES0 values{};
        FWPS_INCOMING_METADATA_VALUES0 metadata{};
        std::array<FWP_BYTE_ARRAY16, 2> addresses{};
        size_t address_count = 0;
        FWP_BYTE_BLOB blob{};
    };

    Answer Classify(Indication &indication, void *layer_data, bool can_pend)
    {
        sim::wfp::ClassifyInput input;
        Answer answer;

        input.layer = indication.values.layerId;
        input.values = &indication.values;
        input.metadata = &indication.metadata;
        input.layer_data = layer_data;
        input.can_pend = can_pend;
        if (can_pend)
        {
            input.on_complete = [completions = answer.completions, with = answer.completed_with](NET_BUFFER_LIST *list)
            {
                ++*completions;
                *with = list != nullptr ? BytesOf(list->FirstNetBuffer) : ByteVector();
            };
        }
        StartFailing();
        answer.result = machine_.wfp().Classify(input);
        CountFailures();
        return answer;
    }

    void StartFailing()
    {
        if (failing_ && fail_all_)
        {
            machine_.faults().FailAll();
        }
        else if (failing_)
        {
            machine_.faults().FailNth(fail_nth_);
        }
    }

    void CountFailures()
    {
        if (failing_)
        {
            failures_ += machine_.faults().failures();
            fail_nth_ = fail_nth_ >= machine_.faults().calls() ? fail_nth_ - machine_.faults().calls() : UINT64_MAX;
            machine_.faults().Stop();
        }
    }

    static uint32_t TransportHeaderLength(const Flow &flow) { return flow.protocol == PROTOCOL_TCP ? 20 : 8; }

    Answer Authorize(const Flow &flow, bool outbound, const ByteVector *packet, const AleOptions &options)
    {
        const bool v6 = flow.family() == 6;
        Indication indication(outbound ? (v6 ? FWPS_LAYER_ALE_AUTH_CONNECT_V6 : FWPS_LAYER_ALE_AUTH_CONNECT_V4)
                                       : (v6 ? FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V6 : FWPS_LAYER_ALE_AUTH_RECV_ACCEPT_V4),
                              outbound ? static_cast<uint32_t>(FWPS_FIELD_ALE_AUTH_CONNECT_V4_MAX)
                                       : static_cast<uint32_t>(FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_MAX));
        FWPS_INCOMING_METADATA_VALUES0 &metadata = indication.metadata;
        const uint32_t flags = (options.reauthorize ? FWP_CONDITION_FLAG_IS_REAUTHORIZE : 0) |
                               (options.loopback ? FWP_CONDITION_FLAG_IS_LOOPBACK : 0);
        const bool packet_inbound =
            options.packet_direction ? *options.packet_direction == FWP_DIRECTION_INBOUND : !outbound;

        indication.SetAddress(FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_LOCAL_ADDRESS, flow.local);
        indication.SetUint16(FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_LOCAL_PORT, flow.local.port);
        indication.SetUint8(FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_PROTOCOL, flow.protocol);
        indication.SetAddress(FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_REMOTE_ADDRESS, flow.remote);
        indication.SetUint16(FWPS_FIELD_ALE_AUTH_CONNECT_V4_IP_REMOTE_PORT, flow.remote.port);
        indication.SetUint32(outbound ? static_cast<uint32_t>(FWPS_FIELD_ALE_AUTH_CONNECT_V4_FLAGS)
                                      : static_cast<uint32_t>(FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_FLAGS),
                             flags);
        indication.SetUint32(outbound ? static_cast<uint32_t>(FWPS_FIELD_ALE_AUTH_CONNECT_V4_INTERFACE_INDEX)
                                      : static_cast<uint32_t>(FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_INTERFACE_INDEX),
                             kInterface);
        indication.SetUint32(outbound ? static_cast<uint32_t>(FWPS_FIELD_ALE_AUTH_CONNECT_V4_SUB_INTERFACE_INDEX)
                                      : static_cast<uint32_t>(FWPS_FIELD_ALE_AUTH_RECV_ACCEPT_V4_SUB_INTERFACE_INDEX),
                             kSubInterface);
        indication.SetCompartment(kCompartment);
        if (flow.process_id != 0)
        {
            indication.SetProcess(flow.process_id, &options.process_path);
        }
        if (options.packet_direction)
        {
            metadata.packetDirection = *options.packet_direction;
            metadata.currentMetadataValues |= FWPS_METADATA_FIELD_PACKET_DIRECTION;
        }
        metadata.transportEndpointHandle = kEndpoint;
        metadata.remoteScopeId.Value = kScope;
        metadata.currentMetadataValues |=
            FWPS_METADATA_FIELD_TRANSPORT_ENDPOINT_HANDLE | FWPS_METADATA_FIELD_REMOTE_SCOPE_ID;

        ByteVector control = options.control_data;
        if (!control.empty())
        {
            metadata.controlData = reinterpret_cast<WSACMSGHDR *>(control.data());
            metadata.controlDataLength = static_cast<UINT32>(control.size());
            metadata.currentMetadataValues |= FWPS_METADATA_FIELD_TRANSPORT_CONTROL_DATA;
        }
        ByteVector header_include = options.header_include;
        if (!header_include.empty())
        {
            metadata.headerIncludeHeader = header_include.data();
            metadata.headerIncludeHeaderLength = static_cast<UINT32>(header_include.size());
            metadata.currentMetadataValues |= FWPS_METADATA_FIELD_TRANSPORT_HEADER_INCLUDE_HEADER;
        }
        if (packet == nullptr)
        {
            return Classify(indication, nullptr, !options.reauthorize);
        }

        const uint32_t header = HeaderLength(*packet);
        metadata.ipHeaderSize = packet_inbound ? header : 0;
        metadata.transportHeaderSize = TransportHeaderLength(flow);
        metadata.currentMetadataValues |= FWPS_METADATA_FIELD_TRANSPORT_HEADER_SIZE;
        if (packet_inbound)
        {
            metadata.currentMetadataValues |= FWPS_METADATA_FIELD_IP_HEADER_SIZE;
        }

        std::vector<ByteVector> packets = options.more_packets;
        packets.insert(packets.begin(), *packet);
        std::vector<std::vector<ByteVector>> lists = options.more_lists;
        lists.insert(lists.begin(), packets);
        PacketChain chain(machine_, lists, header + (packet_inbound ? TransportHeaderLength(flow) : 0));
        Answer answer = Classify(indication, chain.head(), !options.reauthorize);

        // The stack's own is gone with the classify.
        std::fill(control.begin(), control.end(), 0xDD);
        std::fill(header_include.begin(), header_include.end(), 0xDD);
        return answer;
    }

    // The injected packet at the IP packet layer, as the stack shows it to the driver again.
    bool ClassifyInjected(const Injection &injection)
    {
        if (injection.kind == Injection::kNetworkReceive)
        {
            NET_BUFFER *buffer = injection.net_buffer_list->FirstNetBuffer;
            const ByteVector bytes = BytesOf(buffer);
            const uint32_t header = HeaderLength(bytes);

            NdisAdvanceNetBufferDataStart(buffer, header, FALSE, nullptr);
            bool permitted = InboundChain(IsV6(bytes), injection.net_buffer_list, header, 0).permitted();
            if (IsFragment(bytes))
            {
                permitted = permitted &&
                            InboundChain(IsV6(bytes), injection.net_buffer_list, header, FWP_CONDITION_FLAG_IS_FRAGMENT)
                                .permitted();
            }
            NdisRetreatNetBufferDataStart(buffer, header, 0, nullptr);
            return permitted;
        }
        if (injection.kind == Injection::kNetworkSend)
        {
            return OutboundChain(injection.family == AF_INET6, injection.net_buffer_list).permitted();
        }
        return true;
    }

    sim::Machine &machine_;
    bool failing_ = false;
    bool fail_all_ = false;
    uint64_t fail_nth_ = 0;
    uint64_t failures_ = 0;
    netverdict_test::Observer *observer_ = nullptr;
    std::mutex mutex_;
    std::vector<Injected> injected_;     // under mutex_
    std::vector<uint16_t> reauthorized_; // under mutex_
};

// ---- The fixture

// The driver is loaded and a client is attached. At the end it must have kept its invariants; the client is detached
// and the driver unloaded, which checks for everything that is left.
class DriverTest : public testing::Test
{
  protected:
    explicit DriverTest(const sim::MachineOptions &options = StandingClock())
        : machine_(options), scope_(machine_), network_(machine_), client_(machine_)
    {
        Load();
        network_.SetObserver(&client_.observer());
        EXPECT_EQ(client_.Open(), STATUS_SUCCESS);
        machine_.Run();
        network_.TakeReauthorized();
    }

    void TearDown() override { client_.CheckInvariants(); }

    ~DriverTest() override
    {
        client_.Close();
        Unload();
    }

    void Load() { ASSERT_EQ(machine_.io().LoadDriver(DriverEntry, u"NetVerdict", &driver_), STATUS_SUCCESS); }

    void Unload()
    {
        if (driver_ != nullptr)
        {
            EXPECT_EQ(machine_.io().UnloadDriver(std::exchange(driver_, nullptr)), STATUS_SUCCESS);
        }
    }

    DRIVER_CONTEXT *context() { return ContextOfDevice(driver_->DeviceObject); }

    void Advance(std::chrono::nanoseconds duration) { machine_.clock().Advance(duration); }

    // Makes the flow known to the driver, with this verdict.
    void Decide(const Flow &flow, uint8_t verdict)
    {
        const ByteVector packet = MakePacket(flow);

        EXPECT_TRUE(network_.Connect(flow, flow.protocol == PROTOCOL_TCP ? nullptr : &packet, {}).pended());
        client_.Verdict(client_.ReadQuestion().id, verdict);
        network_.TakeInjected();
        network_.TakeReauthorized();
    }

    sim::Machine machine_;
    sim::Machine::Scope scope_;
    Network network_;
    Client client_;
    PDRIVER_OBJECT driver_ = nullptr;
};

} // namespace kext_test
