// Watches one client and its driver from outside, and reports which of the driver's invariants are broken:
//
//   - The driver resolves each held packet once: an id takes one verdict, and a second verdict is unknown.
//   - Ids are never 0 and never repeat, also not for the next client.
//   - The driver delivers every event that it queued.
//   - It counts every lost event, and reports each loss once to a client that knows extended records.
//   - It lets no packet out before the verdict on its connection.
//   - Each connection ends at most once, and only after it was reported.
//
// The observer sees the bytes that the client reads and writes, the packets that the driver injects, and its counters.
// Any thread may call it.
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
    // The fields of STATISTICS_WIRE that the invariants need.
    struct Counters
    {
        uint64_t events_queued = 0;
        uint64_t events_delivered = 0;
        uint64_t events_lost = 0;
        uint64_t verdicts_applied = 0;
        uint64_t verdicts_unknown_id = 0;
        uint64_t packets_held = 0; // at this moment
        uint64_t client_stalls = 0;
        uint64_t failed_calls = 0; // injected failures: the report of a loss may be lost, too

        bool operator==(const Counters &other) const;
    };

    // A client is attached. The observer forgets the client before, but not its ids.
    // `is_exact`: no event was queued or lost between the open and the reading of `before`.
    void Opened(const Counters &before, bool is_exact = true);

    // The client has read these bytes. They may end within a record.
    void Read(const uint8_t *bytes, size_t length);

    // The client is about to write: the driver may carry commands out before the write returns.
    void Writes(const uint8_t *bytes, size_t length);

    // The write has returned: the driver has carried out the first `consumed` bytes.
    void Wrote(const uint8_t *bytes, size_t length, size_t consumed);

    // The client is about to send a device control.
    void Controls(uint32_t code, const void *input, size_t length);

    // The driver has accepted options. `now`: the counters after that.
    void TookOptions(const void *input, size_t length, const Counters &now);

    // The driver injects a whole IP packet. Fragments follow their first fragment and are not checked.
    void LetsOut(const uint8_t *packet, size_t length);

    // From now on a timeout or the fail policy may decide on held packets.
    // The fail policy decides after a shutdown, in a stall, before a sleep and when the client detaches.
    void OthersMayDecide();

    // Returns the broken invariants. The client must have read everything.
    std::vector<std::string> Problems(const Counters &now);

  private:
    struct End
    {
        std::string address;
        uint16_t port = 0; // 0: the protocol has none

        bool operator<(const End &other) const;
    };

    struct Connection
    {
        uint8_t protocol = 0;
        End local;
        End remote;

        bool operator<(const Connection &other) const;
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
        Connection connection;
        bool is_guess = false; // the client had not read a question with this id
    };

    struct Decided
    {
        uint64_t commands = 0; // verdicts and updates
        uint64_t updates = 0;
        std::set<uint64_t> surely;  // questions with a verdict
        std::set<uint64_t> perhaps; // questions with guesses alone
    };

    // What the client has let out until a step.
    struct Allowed
    {
        std::set<Connection> conversations; // the lesser end first: both directions are one
        std::set<Connection> redirected;    // `local` alone: the sender, as the redirected packet names it

        void Add(const Connection &connection, uint8_t verdict);
        bool Has(const Connection &packet) const;
    };

    static Connection MakeConnection(uint8_t protocol, const uint8_t *local, const uint8_t *remote,
                                     size_t address_length, uint16_t local_port, uint16_t remote_port);
    template <typename Wire> static Connection ConnectionOf(const Wire &wire);
    static Connection Conversation(const Connection &connection);

    std::vector<Step> StepsOf(const uint8_t *bytes, size_t length) const;
    void AddStep(const uint8_t *command, std::vector<Step> *steps) const;

    void ReadRecord(uint8_t type, const uint8_t *record, size_t length);
    void ReadConnection(const Connection &connection, uint64_t id, uint64_t process_id);
    void ReadConnectionEnd(const Connection &connection, uint64_t process_id);
    void CheckCounters(const Counters &now);
    void CheckVerdicts(const Counters &now);
    void CheckLosses(const Counters &now);
    void CheckOrder(const Counters &now);
    Decided CountDecided() const;
    uint64_t CountEarlyPackets() const;
    bool DoOthersDecide() const;
    void Report(const std::string &problem);

    std::mutex mutex_; // of everything below
    std::set<uint64_t> ids_;
    Counters before_;
    bool is_exact_ = true; // of before_
    kext_test::RecordSplitter splitter_;
    uint64_t records_ = 0;
    uint64_t reported_losses_ = 0;
    std::optional<uint64_t> unreported_losses_; // before the client knew extended records; empty: it does not
    std::map<uint64_t, Connection> questions_;
    // Processes of what is reported, and its end is not. Two links may have the same connection.
    std::map<Connection, std::set<uint64_t>> alive_;
    std::vector<Step> steps_;
    std::vector<std::string> problems_;
};

} // namespace netverdict_test
