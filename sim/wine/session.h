// A test's hold on the simulated computer: carries out its requests, and tells it what becomes of them.
//
// Concurrency: Execute and HandleClosed on one thread; outcomes come on any. Each replay and each load has a thread of
// its own.
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

    // The response to a request, status first. `owner` stands for the handle that it came by.
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
