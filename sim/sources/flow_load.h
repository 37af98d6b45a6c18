// Scripted load: many flows of one kind from the calling thread, with a bound on flows in the air.
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
    uint32_t in_flight = 1; // flows whose outcome is not known yet, at most
    uint8_t protocol = 6;   // 6 or 17
    uint8_t ip_version = 4;
    uint32_t packets_per_connection = 0; // after the first, alternating out and in
    uint32_t payload_length = 0;         // of each of them
    uint64_t process_id = 1000;
    bool close = true; // false: flows stay open until the stack ends
};

struct FlowLoadResult
{
    double seconds = 0;
    uint64_t permitted = 0;
    uint64_t blocked = 0;
    uint64_t dropped = 0; // and undecided in time
    uint64_t redirected = 0;
    std::vector<float>
        latencies; // microseconds from connect to outcome, one a flow, in order; with one flow in the air
};

class FlowLoad
{
  public:
    FlowLoad(Machine &machine, const FlowLoadOptions &options);

    FlowLoad(const FlowLoad &) = delete;
    FlowLoad &operator=(const FlowLoad &) = delete;

    // On the calling thread, until every flow has its outcome or Stop() was called. Each flow has its own
    // remote endpoint.
    FlowLoadResult Run();

    void Stop(); // from any thread

  private:
    class Batch;

    Machine &machine_;
    FlowLoadOptions options_;
    std::atomic<bool> stop_{false};
};

} // namespace sim::sources
