// Floods: numbered connections, each with another remote address, and a client that answers them.
#pragma once

#include "support/device_client.h"
#include "support/flows.h"

#include <cstdint>
#include <functional>
#include <optional>

namespace kext_test
{

// A process that floods, and a server that is flooded.
constexpr uint64_t kFloodingProcess = 6660;
constexpr uint64_t kServerProcess = 7770;
constexpr uint16_t kServerPort = 5353;

// Remote address number `n` of 2^24, spread over 2^16 networks: a /24 of IPv4, a /48 of IPv6.
Endpoint Scattered(uint32_t n, uint16_t port, bool v6);

// One UDP socket of the flooding process to ever new destinations.
Flow OneSocketToMany(uint32_t n, bool v6);

// TCP connects of the flooding process to ever new destinations.
Flow Scan(uint32_t n, bool v6);

// Datagrams to the server's open port, each of another sender.
Flow SpoofedSender(uint32_t n, bool v6);

// One connection of another process.
Flow Bystander(uint32_t n, bool v6);

// Reads what the driver says and gives questions this verdict.
class Answerer
{
  public:
    // What one reading has found.
    struct Reading
    {
        size_t records = 0;
        size_t questions = 0;
        size_t ends = 0;
        std::optional<size_t> before; // records before the question of the process that was looked for
    };

    Answerer(Client &client, uint8_t verdict) : client_(client), verdict_(verdict) {}

    // Reads all that is there and answers it. Looks for a question of `process`.
    Reading Answer(uint64_t process = 0);

    // Reads all that is there and answers the questions of `process`.
    Reading AnswerOnly(uint64_t process);

    uint64_t questions() const { return questions_; }
    uint64_t ends() const { return ends_; }

  private:
    Reading Read(uint64_t process, bool answers_all);
    void Add(ByteVector *verdicts, uint64_t id);
    void Send(ByteVector *verdicts);

    Client &client_;
    uint8_t verdict_;
    uint64_t questions_ = 0;
    uint64_t ends_ = 0;
};

} // namespace kext_test
