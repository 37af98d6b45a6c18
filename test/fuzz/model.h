// The invariants of the driver. The model sees everything that the client and the network see.
//
// - The stream of records is complete for all sizes of reads.
// - Ids count up and never repeat.
// - A connection is reported as ended once, and only after it was reported to this client.
// - A packet is sent at most once, and never if the driver let it pass at once or the client refused it.
// - A packet that the client accepted is sent, unless a failure was injected.
// - With the fail policy closed, no packet is sent before a verdict that permits it.
//   One verdict on an id permits one packet. The last verdict on a connection permits its later packets.
//
// Where the order of events cannot be observed from outside, both orders are right.
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

    // A handle was opened: a new stream begins, and no connection has a verdict.
    void Attached();
    // The handle was closed, and all pending injections are done.
    void Detached();

    // `strict`: from now on no packet may pass without a verdict.
    void SetStrict(bool strict) { strict_ = strict; }

    void Read(const uint8_t *bytes, size_t length);
    void Written(const ByteVector &bytes); // called before the write

    uint64_t records() const { return records_; } // records read from this stream
    const std::vector<uint64_t> &ids() const { return ids_; }

    // ---- The network

    // A packet that ends in `serial`, outbound on `flow`.
    void Sent(uint32_t serial, const Flow &flow, bool let_pass, bool fragment = false);
    // The same, inbound: the driver may pass it to the layer where the client is asked again.
    void Arrived(uint32_t serial, const Flow &flow, bool let_pass, bool fragment = false);
    // `at_endpoint`: by the socket's endpoint. If that fails, the packet is sent at the network layer.
    void Injected(uint32_t serial, bool at_endpoint = false);

    // All deferred work has run: every pending injection is done.
    void Settled();

    // ---- Events of the driver

    // Connections of this end have ended: later verdicts on them may have no effect.
    void Ended(uint8_t protocol, const sim::net::Endpoint &local);
    // Enough time has passed that the driver may have removed connections.
    void Aged() { all_doubtful_ = true; }

    // Held packets may now be resolved without the client: by a timeout, by sleep, or over a share.
    void OthersMayDecide();

    // Sets whether injections, and other functions that the driver calls, succeed.
    void SetReliable(bool reliable);

    // The driver was unloaded and loaded again: its ids start again.
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
        bool left_to_ale = false; // held until its datagram's first fragment, which is of an unknown connection
        bool injected = false;
        int may_repeat = 0;   // injections after one that may have failed: by the fail policy, or without the endpoint
        bool refused = false; // refused by the client
    };

    struct Asked
    {
        Key key;
        uint32_t serial; // the held packet, or 0
    };

    // The client's decision on a connection.
    struct Standing
    {
        bool lets_pass = false;  // as the last verdict says
        bool redirected = false; // redirected at least once: packets are then injected without a question
        uint32_t let_go = 0;     // held packets that are permitted but not injected yet
    };

    static Key KeyOf(const Flow &flow);
    static Key KeyOf(uint8_t protocol, const ByteVector &local, uint16_t local_port, const ByteVector &remote,
                     uint16_t remote_port);
    static Hosts HostsOf(const Key &key) { return {std::get<1>(key), std::get<3>(key)}; }

    void Take(const Record &record);
    void TakeQuestion(const Question &question);
    void TakeEnd(const Record &record);
    void CarryOut(const uint8_t *command);
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
    std::set<uint64_t> seen_;
    std::map<uint64_t, Asked> asked_; // questions without a verdict
    std::set<Key> reported_;          // since the last end of a connection with this key
    std::map<Key, Standing> standings_;
    std::map<Hosts, uint32_t> last_fragment_; // by serial; a fragment that overlaps it refuses their datagram
    std::set<Hosts> fragments_let_go_; // hosts with a permitted connection: fragments may belong to its datagrams
    std::set<End> doubtful_;           // verdicts may have no effect on these ends
    bool all_doubtful_ = false;
    std::map<uint32_t, Packet> packets_; // by serial
    uint32_t last_serial_ = 0;
    uint32_t last_unsure_ = 0; // others may decide on packets up to this one
    std::set<uint32_t> owed_;  // accepted packets that must be injected
};

} // namespace fuzz
