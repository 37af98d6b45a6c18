// Watches one client and its driver from outside, and tells which of the driver's invariants were broken:
//
//   - what is held is resolved exactly once: each id takes one verdict, a second one is unknown
//   - ids are never 0 and never repeat, from one client to the next either
//   - every event that was queued is delivered, or still queued; every loss is counted, and told once to a client that
//     knows extended records
//   - no packet is let out before its verdict, and none by the verdict of another connection
//   - no ConnectionEnd without its Connection, and one for each at most
//
// It needs no more than the bytes that the client reads and writes, what the driver lets out, and its counters. Whoever
// uses it calls from any thread.
#pragma once

#include "protocol.h"

#include "support/record_splitter.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace netverdict_test
{

class Observer
{
  public:
    // STATISTICS_WIRE's, as far as they matter.
    struct Counters
    {
        uint64_t events_queued = 0;
        uint64_t events_delivered = 0;
        uint64_t events_lost = 0;
        uint64_t verdicts_applied = 0;
        uint64_t verdicts_unknown_id = 0;
        uint64_t packets_held = 0; // now
        uint64_t failed_calls = 0; // of the driver's, that were made to: the word of a loss may be lost, too

        bool operator==(const Counters &other) const;
    };

    // A client is attached. What was seen of the one before is forgotten, but for its ids. Not `is_exact`: of what was
    // queued and lost the counters may have been read too late, as the network went on.
    void Opened(const Counters &before, bool is_exact = true);

    // What it reads, in whatever pieces.
    void Read(const uint8_t *bytes, size_t length);

    // What it is about to write: the driver may carry it out before the write returns.
    void Writes(const uint8_t *bytes, size_t length);

    // What became of it: the driver has carried out the first `consumed` bytes.
    void Wrote(const uint8_t *bytes, size_t length, size_t consumed);

    // A device control that it is about to make.
    void Controls(uint32_t code, const void *input, size_t length);

    // The driver has taken options. `now`: after that.
    void TookOptions(const void *input, size_t length, const Counters &now);

    // A whole IP packet that the driver injects. Fragments go the way of their first one, and are not looked at.
    void LetsOut(const uint8_t *packet, size_t length);

    // From now on others than the client may decide over what is held: time, or the fail policy after a shutdown,
    // before a sleep and at the end.
    void OthersMayDecide();

    // What is broken now. The client must have read everything.
    std::vector<std::string> Problems(const Counters &now);

  private:
    // Both ends of a connection, the same from either side.
    struct Pair
    {
        uint8_t protocol = 0;
        std::string ends[2]; // address and port

        bool operator<(const Pair &other) const;
    };

    struct Step
    {
        enum Kind
        {
            kVerdict,
            kUpdate,
            kLetOut,
            kOthers,
        } kind;
        uint64_t id = 0;
        uint8_t verdict = 0;
        Pair pair;
    };

    static Pair MakePair(uint8_t protocol, const uint8_t *first, const uint8_t *second, size_t address_length,
                         uint16_t first_port, uint16_t second_port);

    template <typename Wire> static Step UpdateStep(const Wire &wire);
    static std::vector<Step> StepsOf(const uint8_t *bytes, size_t length);
    static void AddStep(const uint8_t *command, std::vector<Step> *steps);

    void ReadRecord(uint8_t type, const uint8_t *record, size_t length);
    void ReadConnection(const Pair &pair, uint64_t id);
    void ReadConnectionEnd(const Pair &pair);
    void CheckCounters(const Counters &now);
    void CheckVerdicts(const Counters &now);
    void CheckLosses(const Counters &now);
    void CheckOrder();
    bool DoOthersDecide() const;
    void Report(const std::string &problem);

    std::mutex mutex_; // of everything below
    std::set<uint64_t> ids_;
    Counters before_;
    bool is_exact_ = true; // before_
    kext_test::RecordSplitter splitter_;
    uint64_t records_ = 0;
    uint64_t told_losses_ = 0;
    std::optional<uint64_t> untold_losses_; // from before the client knew extended records; nothing: it does not
    std::map<uint64_t, Pair> questions_;
    std::set<Pair> alive_; // the client knows of it, and not of its end
    std::vector<Step> steps_;
    bool anything_lost_ = false; // the fail policy decided over it
    std::vector<std::string> problems_;
};

} // namespace netverdict_test
