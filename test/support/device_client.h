// A client of the driver's device: opens it, reads records, writes commands, sends device controls.
#pragma once

#include "support/bytes.h"
#include "support/observer.h"
#include "support/records.h"

#include "machine.h"
#include "nt/io_manager.h"

#include <string>
#include <vector>

namespace kext_test
{

// STATISTICS_WIRE without its first field, aligned.
struct Statistics
{
    uint64_t EventsQueued, EventsDelivered, EventsLost, BytesDelivered, ReadsCompleted, VerdictsApplied,
        VerdictsUnknownId, CommandsRejected, PacketsHeld, Connections, BandwidthEntries, PoolBytes, PoolBytesPeak,
        PacketsPermitted, PacketsBlocked, PacketsInjected, InjectFailures, PacketsRedirected, FragmentsBlocked,
        MalformedPackets, ClientStalls, DecidedInPlace, CopiesCoalesced, CopiesLargeSend, CopiesPartialChecksum,
        CopiesSecured, EngineRetries, EngineState;
};

static_assert(sizeof(Statistics) == sizeof(STATISTICS_WIRE) - sizeof(uint32_t), "the same counters");

// An observer watches all that the client does.
class Client
{
  public:
    explicit Client(sim::Machine &machine) : machine_(machine), io_(machine.io()) {}
    ~Client() { Close(); }

    Client(const Client &) = delete;
    Client &operator=(const Client &) = delete;

    NTSTATUS Open(const std::u16string &name = u"\\\\.\\NetVerdict");

    // Opens a handle that may only be queried, which attaches no client.
    NTSTATUS OpenForQuery();
    void Close();

    sim::nt::File *file() { return file_; }
    netverdict_test::Observer &observer() { return observer_; }

    // For a test that reads or writes without this client.
    void StopObserving() { is_observed_ = false; }

    // Reads all that is left. Fails the test where the driver broke an invariant.
    void CheckInvariants();

    // Reads all that can be read now. `status` gets the last read's status, unless that read was cancelled.
    ByteVector ReadBytes(NTSTATUS *status = nullptr);

    std::vector<Record> Read() { return AllRecords(ReadBytes()); }
    std::vector<Record> ReadType(uint8_t type);
    std::vector<Question> ReadQuestions();

    // Fails the test unless there is exactly one question.
    Question ReadQuestion();

    std::vector<std::string> GetLogs();

    sim::nt::IoResult Write(const ByteVector &bytes);
    sim::nt::IoResult Command(uint8_t command) { return Write({command}); }
    sim::nt::IoResult Verdict(uint64_t id, uint8_t verdict);

    // `out`: its size is the room for the reply. On success it holds the reply.
    sim::nt::IoResult Control(uint32_t code, const ByteVector &in, ByteVector *out);

    static OPTIONS_WIRE DefaultOptions();
    NTSTATUS SetOptions(const OPTIONS_WIRE &options);
    NTSTATUS Keepalive();
    Statistics GetStatistics();

  private:
    netverdict_test::Observer::Counters Observed(const Statistics &statistics) const;
    void ReadAllThatIsLeft();

    sim::Machine &machine_;
    sim::nt::IoManager &io_;
    sim::nt::File *file_ = nullptr;
    netverdict_test::Observer observer_;
    bool is_observed_ = false;
};

} // namespace kext_test
