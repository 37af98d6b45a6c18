// What must be true whatever happens, told of everything that the client and the network see:
//
// - The stream of records is whole, whatever the sizes of the reads.
// - Ids count up and never come again.
// - No connection ends that this client was not told of.
// - A packet goes on its way at most once, and not at all where the driver had let it pass at once, or where the client
//   did not want it to.
// - A packet that the client accepted does go on its way, unless something was told to fail.
// - With a fail policy of closed, no packet leaves before a verdict that lets it: one verdict on an id lets one packet
//   go, and a connection's packets pass by themselves as long as its last verdict lets them.
//
// Where the order of things is not to be seen from outside, either is right.
#pragma once

#include "support/bytes.h"
#include "support/flows.h"
#include "support/record_splitter.h"
#include "support/records.h"

#include <array>
#include <map>
#include <set>
#include <tuple>

namespace fuzz
{

using kext_test::ByteVector;
using kext_test::Flow;
using kext_test::Question;
using kext_test::Record;

class Model
{
  public:
    // ---- The client

    // A handle was opened: another stream begins, and nothing is decided.
    void Attached();
    // It was closed, and what was still to be injected has been.
    void Detached();

    // `strict`: from now on nothing may pass without a verdict.
    void SetStrict(bool strict) { strict_ = strict; }

    void Read(const uint8_t *bytes, size_t length);
    void Written(const ByteVector &bytes); // before it is written

    uint64_t records() const { return records_; } // read of this stream
    const std::vector<uint64_t> &ids() const { return ids_; }

    // ---- The network

    // A packet that ends in `serial`, on its way out by `flow`.
    void Sent(uint32_t serial, const Flow &flow, bool let_pass, bool fragment = false);
    // The same from the other end: the driver may let it pass to where it is asked about again.
    void Arrived(uint32_t serial, const Flow &flow, bool let_pass, bool fragment = false);
    void Injected(uint32_t serial);

    // Everything that was put off has run: what is to be injected is.
    void Settled();

    // ---- What happens to the driver

    // Connections of this end have ended: it may be that they are decided on no more.
    void Ended(uint8_t protocol, const sim::net::Endpoint &local);
    // So much time has passed that connections may have been forgotten.
    void Aged() { all_doubtful_ = true; }

    // Something else than the client may decide on what is held: time, or a sleep.
    void OthersMayDecide();

    // Whether injections, and what else the driver calls, succeed.
    void SetReliable(bool reliable);

    // The driver was unloaded, and loaded again: its ids begin anew.
    void Reloaded();

  private:
    using Key = std::tuple<uint8_t, std::array<uint8_t, 16>, uint16_t, std::array<uint8_t, 16>, uint16_t>;
    using End = std::tuple<uint8_t, std::array<uint8_t, 16>, uint16_t>;
    using Hosts = std::pair<std::array<uint8_t, 16>, std::array<uint8_t, 16>>;

    struct Packet
    {
        Key key;
        bool let_pass;
        bool fragment;
        bool left_to_ale = false; // where its datagram's first fragment is of no known connection, and it waited for it
        bool injected = false;
        bool may_have_failed = false; // being injected: then the fail policy tries once more
        bool refused = false;         // by the client
    };

    struct Asked
    {
        Key key;
        uint32_t serial; // of the packet that is held, or 0
    };

    // What the client decided about a connection.
    struct Standing
    {
        bool lets_pass = false;  // by the last verdict
        bool redirected = false; // once: then packets are injected that nobody was asked about
        uint32_t let_go = 0;     // held packets, of those that have not been injected
    };

    static Key KeyOf(const Flow &flow);
    static Key KeyOf(uint8_t protocol, const ByteVector &local, uint16_t local_port, const ByteVector &remote,
                     uint16_t remote_port);
    static Hosts HostsOf(const Key &key) { return {std::get<1>(key), std::get<3>(key)}; }
    static bool LetsPass(uint8_t verdict);

    void Take(const Record &record);
    void TakeQuestion(const Question &question);
    void TakeEnd(const Record &record);
    void Perform(uint8_t command);
    void Verdict(uint64_t id, uint8_t verdict);
    void Update(const uint8_t *command, size_t address_length);
    void Decide(const Key &key, uint8_t verdict);
    void DecideOnPacket(uint32_t serial, uint8_t verdict);
    void Forget();
    void Add(uint32_t serial, const Flow &flow, bool let_pass, bool fragment);
    bool IsDoubtful(const Key &key) const;
    bool FollowsAFirst(const Packet &packet) const;
    bool MayBeRefused(uint32_t serial, const Packet &packet) const;
    bool MayPass(const Packet &packet);
    bool MayBeInjected(const Packet &packet);

    bool strict_ = false;
    bool reliable_ = true;
    bool ever_unreliable_ = false; // an injection that fails later may have begun then
    bool guessed_ = false;         // the client decided on an id that it has not read
    kext_test::RecordSplitter splitter_;
    uint64_t records_ = 0;
    uint64_t last_id_ = 0;
    std::vector<uint64_t> ids_;
    std::map<uint64_t, Asked> asked_; // and not decided
    std::set<Key> told_;
    std::map<Key, Standing> standings_;
    std::map<Hosts, uint32_t> last_fragment_; // its serial: one that overlaps another refuses their datagram
    std::set<Hosts> fragments_let_go_; // hosts of which some connection was let pass: fragments may be of its datagrams
    std::set<End> doubtful_;           // a verdict may be of no effect there
    bool all_doubtful_ = false;
    std::map<uint32_t, Packet> packets_; // by serial
    uint32_t last_serial_ = 0;
    uint32_t last_unsure_ = 0; // packets up to it may be decided on by others
    std::set<uint32_t> owed_;  // accepted: to be injected
};

} // namespace fuzz
