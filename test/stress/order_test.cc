// Connections of the same addresses and ports follow each other within microseconds, on four threads.
// The client must see the records of each in order: its questions, its end, then the questions of its successor.
// NETVERDICT_STRESS_SECONDS says how long this goes on. By default it takes a few seconds.
#include "support/commands.h"
#include "support/device_client.h"
#include "support/driver_loader.h"
#include "support/network.h"
#include "support/packets.h"
#include "support/record_splitter.h"
#include "support/records.h"

#include "machine.h"
#include "nt/io_manager.h"
#include "options.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

namespace stress
{
namespace
{

using kext_test::ByteVector;
using kext_test::Flow;
using kext_test::Record;

constexpr unsigned kThreads = 4;

std::chrono::seconds Duration()
{
    const char *const seconds = std::getenv("NETVERDICT_STRESS_SECONDS");

    return std::chrono::seconds(seconds != nullptr ? std::atoi(seconds) : 3);
}

// What the applications do. `ends` is false where connections end by their eviction alone.
struct Load
{
    std::vector<Flow> flows;
    unsigned steps; // of each thread in a round
    bool ends;
    uint32_t max_held_packets; // 0: the usual limit, which nobody reaches
};

// More than the least limit of the connection table, so that connections are evicted all the time.
std::vector<Flow> ManyFlows()
{
    std::vector<Flow> flows;

    for (uint16_t number = 0; number < 6000; number++)
    {
        flows.push_back(number % 2 == 0 ? kext_test::UdpV4() : kext_test::UdpV6());
        flows.back().remote.port = static_cast<uint16_t>(1 + number);
    }
    return flows;
}

// Few connections, so that the threads meet.
std::vector<Flow> FewFlows()
{
    std::vector<Flow> flows = {Flow{}, kext_test::TcpV6(), kext_test::UdpV4(), kext_test::UdpV6()};

    flows.push_back(flows[2]);
    flows.back().remote.port++;
    return flows;
}

// Pairs ends with questions as the client reads them. One thread reads.
class Pairs
{
  public:
    void Take(const Record &record)
    {
        const bool asks = kext_test::IsQuestion(record);

        if (asks || record.type == InfoConnectionEndV4 || record.type == InfoConnectionEndV6)
        {
            bool &alive = alive_[KeyOf(record, asks)];

            questions_ += asks ? 1 : 0;
            ends_ += asks ? 0 : 1;
            misordered_ += !asks && !alive ? 1 : 0;
            alive = asks;
        }
    }

    uint64_t questions() const { return questions_; }
    uint64_t ends() const { return ends_; }
    uint64_t misordered() const { return misordered_; }

    // Returns the connections that were asked about after their end, and forgets them.
    uint64_t TakeUnended()
    {
        uint64_t count = 0;

        for (auto &[key, alive] : alive_)
        {
            count += std::exchange(alive, false) ? 1 : 0;
        }
        return count;
    }

  private:
    // Protocol, addresses and ports, which follow the process and the direction in both kinds of record.
    static ByteVector KeyOf(const Record &record, bool asks)
    {
        const bool v6 = record.type == InfoConnectionV6 || record.type == InfoConnectionEndV6;
        const auto first = record.body.begin() + (asks ? 17 : 9);

        return ByteVector(first, first + 1 + (v6 ? 36 : 12));
    }

    std::map<ByteVector, bool> alive_;
    uint64_t questions_ = 0;
    uint64_t ends_ = 0;
    uint64_t misordered_ = 0;
};

class Client
{
  public:
    Client(sim::Machine &machine, uint32_t max_held_packets) : machine_(machine)
    {
        OPTIONS_WIRE options = kext_test::Client::DefaultOptions();

        EXPECT_EQ(machine_.io().Open(u"\\\\.\\NetVerdict", &file_), STATUS_SUCCESS);
        options.Flags = OPTION_FLAG_EXTENDED_RECORDS;
        options.PayloadLimit = 8;
        options.MaxConnections = OPTIONS_LEAST_MAX_CONNECTIONS;
        options.MaxHeldPackets = max_held_packets != 0 ? max_held_packets : options.MaxHeldPackets;
        machine_.io().DeviceControlAndWait(file_, IOCTL_NETVERDICT_SET_OPTIONS, &options, options.StructSize, nullptr,
                                           0);
        reader_ = std::thread([this] { Read(); });
    }

    ~Client()
    {
        over_ = true;
        while (!done_)
        {
            machine_.io().CancelAll(file_);
            std::this_thread::yield();
        }
        reader_.join();
        machine_.io().Close(file_);
    }

    // Waits until the client has read everything.
    void Drain()
    {
        STATISTICS_WIRE statistics;

        do
        {
            std::this_thread::yield();
            machine_.io().DeviceControlAndWait(file_, IOCTL_NETVERDICT_GET_STATISTICS, nullptr, 0, &statistics,
                                               sizeof(statistics));
            lost_ = statistics.Counters[StatisticEventsLost];
        } while (statistics.Counters[StatisticEventsDelivered] != statistics.Counters[StatisticEventsQueued] ||
                 read_ != statistics.Counters[StatisticEventsDelivered] ||
                 statistics.Counters[StatisticPacketsHeld] != 0);
    }

    uint64_t lost() const { return lost_; }

    // For the thread that drains.
    Pairs pairs;

  private:
    void Read()
    {
        sim::Machine::Scope scope(machine_);
        std::mt19937 random(7);
        kext_test::RecordSplitter splitter;
        ByteVector buffer(16384);

        for (;;)
        {
            const sim::nt::IoResult result =
                machine_.io().ReadAndWait(file_, buffer.data(), static_cast<uint32_t>(buffer.size()));
            ByteVector verdicts;
            uint64_t records = 0;

            if (result.status == STATUS_CANCELLED && !over_)
            {
                continue;
            }
            if (!NT_SUCCESS(result.status))
            {
                break;
            }
            splitter.Add(buffer.data(), result.information,
                         [&](const INFO_HEADER_WIRE &header, const uint8_t *bytes)
                         {
                             const Record record = Record::Of(header, bytes);

                             records++;
                             pairs.Take(record);
                             if (kext_test::IsQuestion(record))
                             {
                                 // Undecided: the next packet asks again. Drop: nothing is injected.
                                 const ByteVector verdict = kext_test::VerdictBytes(
                                     record.At<uint64_t>(0),
                                     static_cast<uint8_t>(random() % 4 == 0 ? VerdictDrop : VerdictUndecided));

                                 verdicts.insert(verdicts.end(), verdict.begin(), verdict.end());
                             }
                         });
            if (!verdicts.empty())
            {
                machine_.io().WriteAndWait(file_, verdicts.data(), static_cast<uint32_t>(verdicts.size()));
            }
            read_ += records;
        }
        done_ = true;
    }

    sim::Machine &machine_;
    sim::nt::File *file_ = nullptr;
    std::thread reader_;
    std::atomic<uint64_t> read_{0};
    std::atomic<bool> over_{false};
    std::atomic<bool> done_{false};
    uint64_t lost_ = 0;
};

// One thread of applications: connections begin, send, and end.
void RunApplications(kext_test::Network &network, const Load &load, unsigned seed)
{
    sim::Machine::Scope scope(network.machine());
    std::mt19937 random(seed);

    for (unsigned step = 0; step < load.steps; step++)
    {
        Flow flow = load.flows[random() % load.flows.size()];
        const ByteVector packet = kext_test::MakePacket(flow);
        kext_test::AleOptions options;

        flow.process_id = 1 + random() % 3;
        switch (random() % (load.ends ? 6 : 3))
        {
        case 0:
        case 1:
            network.Connect(flow, flow.protocol == PROTOCOL_UDP ? &packet : nullptr, options);
            break;
        case 2:
            options.reauthorize = true;
            network.Connect(flow, &packet, options);
            break;
        case 3:
            network.Release(flow.protocol, flow.local, random() % 2 == 0 ? flow.process_id : 0);
            break;
        default:
            network.Close(flow);
            break;
        }
    }
}

// Keeps the event queue's lock for moments, so that the threads meet before it.
void Delay(KSPIN_LOCK *lock, const std::atomic<bool> &over, sim::Machine &machine)
{
    sim::Machine::Scope scope(machine);

    while (!over)
    {
        KIRQL irql;

        KeAcquireSpinLock(lock, &irql);
        std::this_thread::yield();
        KeReleaseSpinLock(lock, irql);
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
}

// Returns the number of events that were lost.
uint64_t ExpectOrder(const Load &load)
{
    sim::MachineOptions machine_options;

    machine_options.processors = 4;

    sim::Machine machine(machine_options);
    sim::Machine::Scope scope(machine);
    kext_test::Network network(machine);
    kext_test::DriverLoader driver(machine);
    EXPECT_EQ(driver.Load(), STATUS_SUCCESS);
    const auto end = std::chrono::steady_clock::now() + Duration();
    uint64_t unended = 0;
    uint64_t lost = 0;

    {
        Client client(machine, load.max_held_packets);
        std::atomic<bool> over{false};
        std::thread delay([&] { Delay(&driver.context()->Queue.Lock, over, machine); });

        for (unsigned round = 0; std::chrono::steady_clock::now() < end; round++)
        {
            std::vector<std::thread> threads;

            for (unsigned thread = 0; thread < kThreads; thread++)
            {
                threads.emplace_back([&, seed = round * kThreads + thread] { RunApplications(network, load, seed); });
            }
            for (std::thread &thread : threads)
            {
                thread.join();
            }
            for (const Flow &flow : load.flows)
            {
                network.Close(flow);
            }
            client.Drain();
            unended += client.pairs.TakeUnended();
        }
        over = true;
        delay.join();
        lost = client.lost();
        EXPECT_EQ(client.pairs.misordered(), 0u) << "of " << client.pairs.ends() << " ends";
        EXPECT_EQ(unended, 0u) << "questions after the end, of " << client.pairs.questions();
        EXPECT_GT(client.pairs.ends(), 100u);
        std::cout << client.pairs.questions() << " questions, " << client.pairs.ends() << " ends\n";
    }
    return lost;
}

TEST(StressTest, EndsAndQuestionsOfConnectionsThatFollowEachOtherAreInOrder)
{
    EXPECT_EQ(ExpectOrder({FewFlows(), 500, true, 0}), 0u);
}

TEST(StressTest, EndsAndQuestionsAreInOrderWhileConnectionsAreEvicted)
{
    ExpectOrder({ManyFlows(), 5000, false, 0}); // all of the table may be undecided, so events may be lost
}

TEST(StressTest, EndsAndQuestionsAreInOrderWhileQuestionsGiveWayToOthers)
{
    EXPECT_GT(ExpectOrder({FewFlows(), 500, true, 4}), 0u);
}

} // namespace
} // namespace stress
