// Scripted load: many flows of one kind from the calling thread, with a bound on undecided flows.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "machine.h"
#include "net/stack.h"

namespace sim::sources
{

struct FlowLoadOptions
{
    uint64_t connections = 1;
    uint32_t in_flight = 1; // most flows that wait for an outcome, or whose packets do
    uint8_t protocol = 6;   // 6 or 17
    uint8_t ip_version = 4;
    uint32_t packets_per_connection = 0; // after the first one, alternately out and in
    uint32_t payload_length = 0;         // of each such packet
    uint64_t process_id = 1000;
    bool close = true; // false: flows stay open until the stack ends
};

struct FlowLoadResult
{
    double seconds = 0;
    uint64_t permitted = 0;
    uint64_t blocked = 0;
    uint64_t dropped = 0; // or not decided in time
    uint64_t redirected = 0;
    std::vector<float>
        latencies; // with one flow at a time: microseconds from connect to outcome, of each flow in order
};

class FlowLoad
{
  public:
    FlowLoad(Machine &machine, const FlowLoadOptions &options);

    FlowLoad(const FlowLoad &) = delete;
    FlowLoad &operator=(const FlowLoad &) = delete;

    // Runs on the calling thread until every flow and packet has its outcome or Stop() was called.
    // Each flow has its own remote endpoint.
    FlowLoadResult Run();

    void Stop(); // any thread may call it

  private:
    class Batch;

    Machine &machine_;
    FlowLoadOptions options_;
    std::atomic<bool> stop_{false};
};

} // namespace sim::sources
