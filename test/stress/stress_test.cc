// The whole driver under concurrent load: applications, raw packets, maintenance, sleep, policy changes, and unloads.
// A client reads, answers, sends commands, cancels, and comes and goes.
// ThreadSanitizer then sees every pair of threads that meet; the usual invariants must hold at the end.
#include "support/commands.h"
#include "support/driver_loader.h"
#include "support/flows.h"
#include "support/record_splitter.h"

#include "machine.h"
#include "net/ip_packet.h"
#include "net/stack.h"
#include "nt/callback_object.h"
#include "nt/io_manager.h"
#include "sources/flow_load.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <random>
#include <thread>
#include <unordered_set>
#include <vector>

namespace stress
{
namespace
{

using sim::net::Direction;
using sim::net::Endpoint;
using sim::net::FlowSpec;
using sim::net::Outcome;
using sim::net::OutcomeKind;

constexpr unsigned kLives = 24; // lives of the client
constexpr uint64_t kQuestionsOfALife = 400;
constexpr unsigned kLivesOfALoad = 6; // lives of the client per load of the driver

Endpoint RandomEnd(std::mt19937 &random, uint8_t family, bool local)
{
    const auto host = static_cast<uint8_t>(local ? 1 : 2 + random() % 20);
    const auto port = static_cast<uint16_t>(local ? 20000 + random() % 200 : 1 + random() % 1000);

    return family == 6 ? kext_test::V6(host, port) : kext_test::V4(local ? 192 : 198, 0, 2, host, port);
}

FlowSpec RandomFlow(std::mt19937 &random)
{
    FlowSpec spec;
    const uint8_t family = random() % 2 == 0 ? 4 : 6;

    spec.protocol = random() % 2 == 0 ? 6 : 17;
    spec.process_id = 100 + random() % 10;
    spec.process_path = u"\\device\\harddiskvolume1\\app.exe";
    spec.local = RandomEnd(random, family, true);
    spec.remote = RandomEnd(random, family, false);
    spec.payload.assign(random() % 200, 'x');
    spec.loopback = random() % 8 == 0;
    return spec;
}

// The client, while one is attached. All its threads but the reader stop before the handle is closed.
// The reader stops when its reads are cancelled, or when the stream ends.
class ClientLife
{
  public:
    ClientLife(sim::Machine &machine, unsigned seed) : machine_(machine), seed_(seed)
    {
        EXPECT_EQ(machine_.io().Open(u"\\\\.\\NetVerdict", &file_), STATUS_SUCCESS);
    }

    // Returns the number of answered questions.
    uint64_t Live()
    {
        std::thread reader([this] { Read(); });
        std::thread writer([this] { Answer(); });
        std::thread controller([this] { Control(); });

        writer.join();
        over_ = true;
        controller.join();
        if (seed_ % 2 == 0)
        {
            Write({CommandShutdown}); // ends the stream
        }
        while (!reader_done_)
        {
            machine_.io().CancelAll(file_);
            std::this_thread::yield();
        }
        reader.join();
        machine_.io().Close(file_);
        return answered_;
    }

  private:
    void Read()
    {
        sim::Machine::Scope scope(machine_);
        std::mt19937 random(seed_);
        kext_test::RecordSplitter splitter;

        for (;;)
        {
            std::vector<uint8_t> buffer(64 + random() % 4096);
            const sim::nt::IoResult result =
                machine_.io().ReadAndWait(file_, buffer.data(), static_cast<uint32_t>(buffer.size()));

            if (result.status == STATUS_CANCELLED && !over_)
            {
                continue;
            }
            if (!NT_SUCCESS(result.status))
            {
                break;
            }
            EXPECT_TRUE(splitter.Add(buffer.data(), result.information,
                                     [this](const INFO_HEADER_WIRE &header, const uint8_t *record)
                                     { TakeQuestion(header, record); }))
                << "the stream is torn";
        }
        reader_done_ = true;
        arrived_.notify_all();
    }

    void TakeQuestion(const INFO_HEADER_WIRE &header, const uint8_t *record)
    {
        if (header.Type != InfoConnectionV4 && header.Type != InfoConnectionV6)
        {
            return;
        }

        uint64_t id;

        std::memcpy(&id, record + sizeof(header), sizeof(id));
        const std::lock_guard<std::mutex> lock(mutex_);
        EXPECT_TRUE(asked_.insert(id).second) << "the id came before";
        questions_.push_back(id);
        arrived_.notify_one();
    }

    void Answer()
    {
        sim::Machine::Scope scope(machine_);
        std::mt19937 random(seed_ + 1);

        while (answered_ < kQuestionsOfALife && !reader_done_)
        {
            std::vector<uint8_t> commands;
            std::unique_lock<std::mutex> lock(mutex_);

            arrived_.wait_for(lock, std::chrono::milliseconds(20),
                              [this] { return !questions_.empty() || reader_done_; });
            while (!questions_.empty() && commands.size() < 500)
            {
                const std::vector<uint8_t> verdict = kext_test::VerdictBytes(
                    questions_.front(), static_cast<uint8_t>(1 + random() % (VerdictCount - 1)));

                questions_.pop_front();
                answered_++;
                if (random() % 16 != 0) // some questions get no answer
                {
                    commands.insert(commands.end(), verdict.begin(), verdict.end());
                }
            }
            lock.unlock();
            if (random() % 8 == 0)
            {
                commands.push_back(
                    static_cast<uint8_t>(CommandClearCache + random() % (CommandCount - CommandClearCache)));
            }
            if (!commands.empty())
            {
                Write(commands);
            }
        }
    }

    void Control()
    {
        sim::Machine::Scope scope(machine_);
        std::mt19937 random(seed_ + 2);

        while (!over_)
        {
            STATISTICS_WIRE statistics;
            OPTIONS_WIRE options{};

            machine_.io().DeviceControlAndWait(file_, IOCTL_NETVERDICT_GET_STATISTICS, nullptr, 0, &statistics,
                                               sizeof(statistics));
            options.StructSize = sizeof(UINT32) * 5;
            options.Flags = random() % 4;
            options.PayloadLimit = random() % 100;
            options.PendingTimeoutMs = random() % 3 * 20;
            options.TimeoutVerdict = VerdictDrop;
            machine_.io().DeviceControlAndWait(file_, IOCTL_NETVERDICT_SET_OPTIONS, &options, sizeof(options), nullptr,
                                               0);
            if (random() % 4 == 0)
            {
                machine_.io().CancelAll(file_);
            }
            if (random() % 16 == 0)
            {
                machine_.power_state().Notify(PO_CB_SYSTEM_STATE_LOCK, 0);
                machine_.power_state().Notify(PO_CB_SYSTEM_STATE_LOCK, 1);
            }
            if (random() % 16 == 0)
            {
                machine_.net().Reauthorize();
            }
            std::this_thread::yield();
        }
    }

    void Write(const std::vector<uint8_t> &bytes)
    {
        const sim::nt::IoResult result =
            machine_.io().WriteAndWait(file_, bytes.data(), static_cast<uint32_t>(bytes.size()));

        EXPECT_TRUE(result.status == STATUS_SUCCESS || result.status == STATUS_CANCELLED) << std::hex << result.status;
    }

    sim::Machine &machine_;
    const unsigned seed_;
    sim::nt::File *file_ = nullptr;
    std::atomic<bool> over_{false};
    std::atomic<bool> reader_done_{false};
    std::mutex mutex_; // guards the members below
    std::condition_variable arrived_;
    std::deque<uint64_t> questions_;
    std::unordered_set<uint64_t> asked_;
    std::atomic<uint64_t> answered_{0};
};

// Traffic that runs until it is stopped.
class Traffic
{
  public:
    explicit Traffic(sim::Machine &machine) : machine_(machine)
    {
        threads_.emplace_back([this] { Flows(1); });
        threads_.emplace_back([this] { Flows(2); });
        threads_.emplace_back([this] { Packets(); });
        threads_.emplace_back([this] { Bursts(); });
    }

    void Stop()
    {
        stop_ = true;
        for (std::thread &thread : threads_)
        {
            thread.join();
        }
    }

    uint64_t outcomes() const { return outcomes_; }

  private:
    void Flows(unsigned seed)
    {
        sim::Machine::Scope scope(machine_);
        std::mt19937 random(seed);
        std::deque<sim::net::FlowId> open;
        const auto count = [this](const Outcome &) { outcomes_++; };

        while (!stop_)
        {
            const FlowSpec spec = RandomFlow(random);
            const uint8_t data[64] = {};

            open.push_back(random() % 4 == 0 ? machine_.net().Accept(spec, count)
                                             : machine_.net().Connect(spec, count));
            machine_.net().Send(open.back(), data, sizeof(data), count);
            machine_.net().Receive(open[random() % open.size()], data, sizeof(data), count);
            if (open.size() > 32)
            {
                machine_.net().Close(open.front());
                open.pop_front();
            }
            std::this_thread::yield();
        }
        for (const sim::net::FlowId flow : open)
        {
            machine_.net().Close(flow);
        }
    }

    void Packets()
    {
        sim::Machine::Scope scope(machine_);
        std::mt19937 random(3);

        while (!stop_)
        {
            const uint8_t family = random() % 2 == 0 ? 4 : 6;
            const std::vector<uint8_t> payload(random() % 300, 'p');
            std::vector<uint8_t> packet(payload.size() + 100);

            packet.resize(sim::net::WriteUdpPacket(packet.data(), RandomEnd(random, family, true),
                                                   RandomEnd(random, family, false), payload.data(), payload.size()));
            if (random() % 4 == 0)
            {
                packet[random() % packet.size()] = static_cast<uint8_t>(random());
            }
            machine_.net().Packet(random() % 2 == 0 ? Direction::kOutbound : Direction::kInbound, packet.data(),
                                  packet.size(), [this](const Outcome &) { outcomes_++; });
            std::this_thread::yield();
        }
    }

    void Bursts()
    {
        sim::Machine::Scope scope(machine_);

        for (uint8_t round = 0; !stop_; round++)
        {
            sim::sources::FlowLoadOptions options;

            options.connections = 20;
            options.in_flight = 10;
            options.protocol = round % 2 == 0 ? 6 : 17;
            options.ip_version = round % 4 < 2 ? 4 : 6;
            options.packets_per_connection = 2;
            options.payload_length = 100;
            sim::sources::FlowLoad(machine_, options).Run();
            std::this_thread::yield();
        }
    }

    sim::Machine &machine_;
    std::atomic<bool> stop_{false};
    std::atomic<uint64_t> outcomes_{0};
    std::vector<std::thread> threads_;
};

TEST(StressTest, AllWorkRunsAtOnceWhileClientsAndTheDriverComeAndGo)
{
    sim::MachineOptions machine_options;

    machine_options.processors = 4;

    sim::Machine machine(machine_options);
    sim::Machine::Scope scope(machine);
    uint64_t answered = 0;
    kext_test::DriverLoader driver(machine);
    Traffic traffic(machine);

    for (unsigned life = 0; life < kLives; life++)
    {
        if (life % kLivesOfALoad == 0)
        {
            ASSERT_EQ(driver.Load(), STATUS_SUCCESS);
        }
        answered += ClientLife(machine, life).Live();
        if ((life + 1) % kLivesOfALoad == 0)
        {
            driver.Unload();
        }
    }
    traffic.Stop();
    machine.net().End();
    EXPECT_GE(answered, kLives * kQuestionsOfALife / 2);
    EXPECT_GT(traffic.outcomes(), 0u);
}

} // namespace
} // namespace stress
