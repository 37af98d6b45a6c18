// A test's session on the simulated computer: executes its requests and reports their outcomes to it.
//
// Concurrency: Execute and HandleClosed are called on one thread; outcomes come on any thread.
// Each replay and each load has its own thread.
#pragma once

#include <functional>
#include <map>
#include <thread>
#include <vector>

#include "bytes.h"
#include "control_protocol.h"
#include "event_queue.h"
#include "machine.h"
#include "net/stack.h"

namespace sim::wine
{

class Session
{
  public:
    explicit Session(Machine &machine) : machine_(machine) {}

    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    EventQueue &events() { return events_; }

    // Returns the response to a request, status first. `owner` identifies the handle of the request.
    std::vector<uint8_t> Execute(const void *owner, const uint8_t *request, size_t length);
    void HandleClosed(const void *owner);

  private:
    struct Source
    {
        std::function<void()> stop;
        std::thread thread;
    };

    NTSTATUS Carry(const void *owner, Reader &request, Writer &answer);
    void Begin(const void *owner);
    void End();
    net::OutcomeCallback OutcomeOf(uint64_t tag);
    void Send(Reader &request, net::Direction direction);
    void SetWire(uint64_t tag);
    void WriteCounters(Writer &answer) const;
    void WriteEngine(Writer &answer) const;
    void StartLoad(Reader &request);
    void StartReplay(Reader &request);
    void Start(uint64_t tag, std::function<void()> stop, std::function<void()> run);

    Machine &machine_;
    EventQueue events_;
    const void *owner_ = nullptr;
    std::map<uint64_t, Source> sources_;
};

} // namespace sim::wine
