// The computer that a fuzzer drives: the driver is loaded, and the fuzzer makes every indication of the network.
// Only the fuzzer's own thread runs, and time stands still unless it is advanced, so an input is reproducible.
#pragma once

#include "input.h"

#include "support/device_client.h"
#include "support/driver_loader.h"
#include "support/machine_test.h"
#include "support/network.h"
#include "support/packets.h"

#include <memory>

namespace fuzz
{

using kext_test::ByteVector;
using kext_test::Client;
using kext_test::Flow;
using kext_test::Network;
using kext_test::Question;
using kext_test::Record;

class Computer
{
  public:
    Computer()
        : machine_(kext_test::StandingClock()), scope_(machine_), network_(machine_), driver_(machine_),
          client_(machine_)
    {
        EXPECT_EQ(driver_.Load(), STATUS_SUCCESS);
        Settle();
    }

    Computer(const Computer &) = delete;
    Computer &operator=(const Computer &) = delete;

    sim::Machine &machine() { return machine_; }
    Network &network() { return network_; }
    Client &client() { return client_; }

    // Runs deferred work, and drops the records of injections and reauthorizations.
    void Settle()
    {
        network_.TakeInjected();
        network_.TakeReauthorized();
    }

    // One of a few connections, so that an input meets the same ones several times.
    static Flow FlowOf(uint8_t choice)
    {
        Flow flow = (choice & 1) != 0 ? kext_test::TcpV6() : Flow{};

        flow.protocol = (choice & 2) != 0 ? PROTOCOL_UDP : PROTOCOL_TCP;
        flow.local.port = static_cast<uint16_t>(50000 + (choice >> 2) % 4);
        flow.remote.port = (choice & 0x10) != 0 ? 53 : 443;
        return flow;
    }

  private:
    sim::Machine machine_;
    sim::Machine::Scope scope_;
    Network network_;
    kext_test::DriverLoader driver_;
    Client client_;
};

// One input's client, on a computer where all earlier connections are removed.
// Loading a driver takes longer than most inputs, so several inputs share one load.
// The driver is then unloaded, and the machine checks for leaks.
class ClientLife
{
  public:
    ClientLife()
    {
        if (shared_ == nullptr)
        {
            shared_ = std::make_unique<Computer>();
        }
        EXPECT_EQ(shared_->client().Open(), STATUS_SUCCESS);
        EXPECT_EQ(shared_->client().Command(CommandClearCache).status, STATUS_SUCCESS);
        shared_->Settle();
    }

    ~ClientLife()
    {
        shared_->client().Close();
        shared_->Settle();
        if (++lives_ % kLivesOfADriver == 0)
        {
            shared_.reset();
        }
    }

    ClientLife(const ClientLife &) = delete;
    ClientLife &operator=(const ClientLife &) = delete;

    Computer &computer() { return *shared_; }

  private:
    static constexpr uint64_t kLivesOfADriver = 100;

    static inline std::unique_ptr<Computer> shared_;
    static inline uint64_t lives_ = 0;
};

} // namespace fuzz
