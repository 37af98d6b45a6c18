// What must be true whatever happens, told of everything that the client and the network see:
//
// - The stream of records is whole, whatever the sizes of the reads; every record that was delivered was counted.
// - Ids count up and never come again.
// - No connection ends that the client was not told of.
// - A packet goes on its way at most once, and not at all where the driver had let it pass at once.
// - With a fail policy of closed, no packet leaves before a verdict that lets it: a verdict for its own connection.
#pragma once

#include "computer.h"

#include <array>
#include <map>
#include <set>
#include <tuple>

namespace fuzz
{

class Model
{
  public:
    // ---- The client

    // A handle was opened: another stream begins.
    void Attached();

    // `strict`: from now on nothing may pass without a verdict.
    void SetStrict(bool strict) { strict_ = strict; }

    void Read(const uint8_t *bytes, size_t length);
    void Written(const ByteVector &bytes); // before it is written

    uint64_t records() const { return records_; } // read of this stream
    const std::vector<uint64_t> &ids() const { return ids_; }

    // ---- The network

    // A packet that ends in `serial`, on its way out by `flow`.
    void Sent(uint32_t serial, const Flow &flow, bool let_pass);
    // The same from the other end: the driver may let it pass to where it is asked about again.
    void Arrived(uint32_t serial, const Flow &flow, bool let_pass);
    void Injected(uint32_t serial);

    // The driver was unloaded, and loaded again: its ids begin anew.
    void Reloaded();

  private:
    using Key = std::tuple<uint8_t, std::array<uint8_t, 16>, uint16_t, std::array<uint8_t, 16>, uint16_t>;

    struct Packet
    {
        Key key;
        bool let_pass;
        bool injected;
    };

    static Key KeyOf(const Flow &flow);
    static Key KeyOf(uint8_t protocol, const ByteVector &local, uint16_t local_port, const ByteVector &remote,
                     uint16_t remote_port);
    static bool LetsPass(uint8_t verdict);

    void Take(const Record &record);
    void TakeQuestion(const Question &question);
    void TakeEnd(const Record &record);
    void Verdict(uint64_t id, uint8_t verdict);
    void Update(const uint8_t *command, size_t address_length);
    void Add(uint32_t serial, const Flow &flow, bool let_pass);
    bool MayPass(const Key &key) const { return !strict_ || allowed_.count(key) != 0; }

    bool strict_ = false;
    ByteVector stream_; // the part of a record that has come
    uint64_t records_ = 0;
    uint64_t last_id_ = 0;
    std::vector<uint64_t> ids_;
    std::map<uint64_t, Key> asked_;
    std::map<uint64_t, uint8_t> verdicts_; // for ids that may be asked about yet
    std::set<Key> told_;
    std::set<Key> allowed_;
    std::map<uint32_t, Packet> packets_; // by serial
};

} // namespace fuzz
