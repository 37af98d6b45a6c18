// A conversation on its way through the layers. Its jobs run one after the other; while the driver holds the packet or
// the authorization of one, the others wait.
//
// Concurrency: whoever finds the flow idle works on it until nothing is left to do or a decision is awaited; jobs and
// events of other threads queue up meanwhile. Everything but the queues belongs to the working thread. No lock is held
// while a layer is classified or a callback runs.
#pragma once

#include "net/hold.h"
#include "net/indication.h"
#include "net/job.h"
#include "net/socket.h"
#include "net/spin_lock.h"

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

namespace sim::net
{

class Core;
class Flow;
class FlowTable;

struct FlowEvent
{
    enum Kind : uint8_t
    {
        kCompleted, // the pended operation
        kInjected,  // a copy, as `packet`
        kDropped,   // the last copy
        kTimeout,
    };

    Kind kind = kTimeout;
    Hold *hold = nullptr; // counted while the event is queued
    PacketPtr packet;
    wfp::Injection::Kind injection = wfp::Injection::kNetworkSend;

    FlowEvent(Kind kind_of_event, Hold *hold_of_event) : kind(kind_of_event), hold(hold_of_event) {}
};

// What became of one packet that a packet source plays.
struct PacketResult
{
    Direction direction = Direction::kOutbound;
    OutcomeKind kind = OutcomeKind::kPermitted;
    bool withheld = false; // the IP packet layer let it through, the authorization did not
};

// A packet source's part of a conversation: called on the thread that works on the flow.
class Conversation
{
  public:
    virtual ~Conversation() = default;

    virtual void Authorized(Flow &flow, OutcomeKind kind) = 0; // each time that it is decided for the first time
    virtual void Leaving(Flow &flow, Packet &packet) = 0;      // authorized, before OUTBOUND_IPPACKET, once a packet
    virtual void Arrived(Flow &flow, Packet &packet) = 0;      // authorized and let in
    virtual void Ended(Flow &flow, const PacketResult &result) = 0;       // of every packet of the source
    virtual void LoopedBack(Flow &flow, PacketPtr packet) = 0;            // a loopback packet that has left
    virtual void Redirected(Flow &flow, PacketPtr packet) = 0;            // one that has left for this machine instead
    virtual bool AnswersRedirected(Flow &flow, const Packet &packet) = 0; // an inbound one: whether it comes from there
    virtual void DatagramIndicated(Flow &flow, Direction direction, uint32_t payload) = 0;
    virtual void Closing(Flow &flow) = 0; // its last job; before ALE_ENDPOINT_CLOSURE
};

class Flow
{
  public:
    Flow() = default;
    ~Flow();

    Flow(const Flow &) = delete;
    Flow &operator=(const Flow &) = delete;

    Core &core() { return *core_; }
    FlowId id() const { return id_.load(std::memory_order_acquire); }
    const FlowIdentity &identity() const { return identity_; }
    const Tuple &tuple() const { return tuple_; }

    Flow *next_free = nullptr; // of the table

    bool UsesSocket(const Socket *socket) const
    {
        return socket_handle_.load(std::memory_order_relaxed) == socket->handle();
    }
    bool IsIndexed() const { return indexed_; }

    // Before the first job.
    void SetLoopback(bool loopback) { identity_.loopback = loopback; }

    void AddReference() { references_.fetch_add(1, std::memory_order_relaxed); }
    void Release();

    // Queues the job, and works on the flow where no other thread does.
    void Submit(Job *job);
    void Post(FlowEvent event);

    // The end, as the application asks for it: what awaits a decision is given up.
    void Close();

    // The end, when everything before has been decided.
    void CloseWhenDone();

    // Drops everything without a word, where the stack ends.
    void Abandon();

    // Indicates stream data of a packet, starting at an offset of it.
    void IndicatePayload(Direction direction, Packet &packet, uint32_t offset, uint32_t length);
    void IndicateDisconnect(Direction direction);

  private:
    friend class Core;
    friend class FlowTable;

    enum class Authorization : uint8_t
    {
        kNone,
        kGranted,
        kWithdrawn // was granted, and refused when it was asked for again
    };

    enum class Need : uint8_t
    {
        kNothing,
        kFirst,
        kAgain,
        kRefused
    };

    struct JobQueue
    {
        Job *first = nullptr;
        Job *last = nullptr;

        bool empty() const { return first == nullptr; }
        void Append(Job *job);
        Job *Pop();
        void Take(JobQueue *other);
    };

    struct Wait
    {
        bool pended = false; // not completed yet
        bool copies = false; // the packet's fate is open
        bool was_pended = false;
        uint32_t epoch = 0; // of the policy that asked to wait
    };

    // Where the driver has sent the flow's packets to.
    struct Redirection
    {
        bool active = false;
        Endpoint source; // as they arrive there
        Endpoint target;
    };

    struct Control
    {
        Direction direction;
        uint8_t flags;
    };

    // Working
    void Work();
    bool NextWork(std::vector<FlowEvent> *events, bool *abort);
    void Handle(FlowEvent *event);
    bool Execute(Job &job);
    bool Begin(Job &job);
    bool AfterTrip(Job &job);
    void Report(Job &job, OutcomeKind kind);
    void Finish();

    // A packet's trip
    void StartTrip(Job &job, PacketPtr packet);
    bool Advance(Job &job);
    bool Authorize(Job &job);
    bool Datagram(Job &job);
    bool IpPacket(Job &job);
    bool Reassembly(Job &job);
    template <typename Permitted> bool GoOn(Job &job, const wfp::ClassifyResult &result, const Permitted &permitted);
    void Join(Job &job);
    bool LoopedSend(Job &job);
    void Arrive(Job &job);
    void Leave(Job &job);
    bool IsFromTarget(const Job &job);
    void ComeFromTarget(Packet &packet) const;
    bool IsPeerHere() const { return identity_.loopback || redirection_.active; }
    void End(Job &job, OutcomeKind kind);
    Need NeedOfAuthorization(const Job &job) const;
    Stage AfterIpPacket(const Job &job) const;
    Stage AfterAuthorization(const Job &job) const;
    void Grant(uint32_t epoch);
    void Refuse(Job &job, OutcomeKind kind, uint32_t epoch); // the conversation
    void RefusePacket(Job &job, OutcomeKind kind);

    // Decisions that are put off
    Hold &FreshHold();
    void RetireHold();
    void RetireUsedHold();
    bool AwaitDecision(Job &job, const wfp::ClassifyResult &result, uint32_t epoch);
    void StopWaiting();
    void OnCompleted(Job &job);
    bool ComesToThisFlow(const Job &job, const Packet &injected) const;
    void OnInjected(Job &job, FlowEvent *event);
    void OnDropped(Job &job);
    void OnTimeout(Job &job);
    void Reauthorize(Job &job);
    void Abort();
    bool Lingers(const Job &job) const;

    // TCP of the stack's own flows
    bool BeginControl(Job &job);
    bool BeginBytes(Job &job);
    void BeginClose();
    void NextSegment(Job &job);
    bool SegmentDone(Job &job);
    bool IndicateBytes(Job &job);
    PacketPtr MakeSegment(Direction direction, uint8_t flags, const uint8_t *payload, size_t length) const;
    PacketPtr MakeControl(const Job &job) const;
    PacketPtr MakeMessage(const Job &job) const;
    void ControlDone(Job &job);
    void PacketDone(const Job &job);
    void TellPeer();
    void OutboundControlDone(uint8_t flags);
    void InboundControlDone(uint8_t flags);
    void Received(Job &job);
    void SegmentArrived(Packet &packet);
    void RemoteFinished();
    void AwaitPeer();
    void StopAwaitingPeer();
    void OnPeerTimeout();
    void Establish();
    void Fail();
    void QueueControls(std::initializer_list<Control> controls);
    void QueueFinish();

    void Clear();

    Core *core_ = nullptr;
    std::atomic<uint64_t> id_{0};
    std::atomic<uint32_t> references_{0};

    FlowIdentity identity_;
    Tuple tuple_;
    SocketRef socket_;
    std::atomic<uint64_t> socket_handle_{0}; // of socket_, for other threads
    std::shared_ptr<Conversation> conversation_;
    bool raw_ = false;      // IP packet layers only
    bool accepted_ = false; // by a listener, not by an application's call

    SpinLock lock_;
    bool working_ = false; // under lock_, as the three below
    bool abort_ = false;   // what is waited for is given up
    JobQueue incoming_;
    std::vector<FlowEvent> events_;

    JobQueue local_;
    JobQueue until_established_;
    Job *current_ = nullptr;
    Hold *hold_ = nullptr;      // of the next classify, or of the one that is waited for
    Hold *peer_hold_ = nullptr; // while the other end on this machine has not answered the handshake
    Wait wait_;
    Redirection redirection_;
    Authorization authorization_ = Authorization::kNone;
    OutcomeKind refusal_ = OutcomeKind::kBlocked; // while not granted
    uint32_t epoch_ = 0;                          // of the policy that granted
    uint32_t local_sequence_ = 0;
    uint32_t remote_sequence_ = 0;
    bool waiting_ = false;
    bool ever_granted_ = false;
    bool established_ = false;
    bool failed_ = false;
    bool expired_ = false;
    bool closing_ = false;
    bool closed_ = false;
    bool opened_ = false;  // the table's reference is there
    bool indexed_ = false; // found by its tuple

    Flow *next_in_bucket_ = nullptr;
};

// An owner of one reference.
class FlowRef
{
  public:
    FlowRef() = default;
    explicit FlowRef(Flow *flow) : flow_(flow) {} // takes the reference over
    FlowRef(FlowRef &&other) noexcept : flow_(other.flow_) { other.flow_ = nullptr; }
    FlowRef &operator=(FlowRef &&other) noexcept
    {
        std::swap(flow_, other.flow_);
        return *this;
    }
    ~FlowRef()
    {
        if (flow_ != nullptr)
        {
            flow_->Release();
        }
    }

    FlowRef(const FlowRef &) = delete;
    FlowRef &operator=(const FlowRef &) = delete;

    FlowRef Share() const
    {
        if (flow_ != nullptr)
        {
            flow_->AddReference();
        }
        return FlowRef(flow_);
    }

    Flow *get() const { return flow_; }
    Flow *operator->() const { return flow_; }
    explicit operator bool() const { return flow_ != nullptr; }

  private:
    Flow *flow_ = nullptr;
};

} // namespace sim::net
