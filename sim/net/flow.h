// A conversation on its way through the layers. Its jobs run one after the other.
// While the driver holds the packet or the authorization of one job, the others wait.
//
// Concurrency: the thread that finds the flow idle works on it until nothing is left to do or a decision is awaited.
// Jobs and events of other threads queue up meanwhile.
// Only the queues are shared. The rest belongs to the working thread.
// No lock is held while a layer is classified or a callback runs.
#pragma once

#include "net/authorization.h"
#include "net/flow_context.h"
#include "net/hold.h"
#include "net/job.h"
#include "net/pending_decision.h"
#include "net/socket.h"
#include "net/spin_lock.h"
#include "net/tcp_conversation.h"
#include "net/trip.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace sim::net
{

class FlowTable;

struct FlowOptions
{
    Direction direction = Direction::kOutbound;
    uint8_t protocol = 0;
    bool loopback = false;
    bool raw = false;      // IP packet layers only
    bool accepted = false; // by a socket, without an application's call
    Endpoint local;        // ICMP: the ports are the type and the code of the first message
    Endpoint remote;
    uint16_t echo_identifier = 0;
    uint16_t echo_sequence = 0;
    SocketRef socket; // none: the process is not known
    std::shared_ptr<Conversation> conversation;
};

class Flow final : public HoldOwner
{
  public:
    Flow() = default;
    ~Flow() = default;

    Flow(const Flow &) = delete;
    Flow &operator=(const Flow &) = delete;

    FlowId id() const { return id_.load(std::memory_order_acquire); }
    const FlowIdentity &identity() const override { return context_.identity; }
    Direction opened() const { return context_.opened; } // who spoke first when it was opened
    bool endpoint_closed() const override { return endpoint_closed_ != nullptr && endpoint_closed_->load(); }
    bool has_conversation() const { return context_.conversation != nullptr; }

    Flow *next_free = nullptr; // of the table

    bool UsesSocket(const Socket *socket) const
    {
        return socket_handle_.load(std::memory_order_relaxed) == socket->identity().handle;
    }
    bool IsIndexed() const { return indexed_; }

    // Call one of these before the first job.

    // Opens it. The flow keeps a reference to itself until it is closed.
    void Open(FlowOptions options);
    // Uses it for one packet that belongs to no conversation.
    void OpenLoose(Direction direction, const IpPacketInfo &info, uint8_t link);
    void SetLoopback(bool loopback) { context_.identity.loopback = loopback; }

    void AddReference() override { references_.fetch_add(1, std::memory_order_relaxed); }
    void Release() override;
    std::shared_ptr<Resources> ShareResources() override { return context_.resources->shared_from_this(); }

    // Queues the job, and works on the flow if no other thread does.
    void Submit(Job *job);
    void Post(HoldEvent event) override;

    // The application ends it. A decision that is awaited is given up.
    void Close();

    // The filter engine ends a TCP connection: a RST leaves. A decision that is awaited is given up.
    void ResetConnection();

    // Ends it when everything before has been decided.
    void CloseWhenDone();

    // Drops everything without a report, because the stack ends.
    void Abandon();

  private:
    friend class FlowTable;

    void SubmitEnd(JobKind kind);
    void Work();
    bool NextWork(std::vector<HoldEvent> *events, bool *abort);
    void Handle(HoldEvent *event);
    void Abort();
    bool Execute(Job &job);
    bool Begin(Job &job);
    bool BeginControl(Job &job);
    bool BeginBytes(Job &job);
    bool AfterTrip(Job &job);
    static void Report(Job &job, OutcomeKind kind);
    void Finish();
    void Clear();

    std::atomic<uint64_t> id_{0};
    std::atomic<uint32_t> references_{0};

    SocketRef socket_;
    std::atomic<uint64_t> socket_handle_{0}; // of socket_, for other threads
    std::shared_ptr<const std::atomic<bool>> endpoint_closed_;
    std::shared_ptr<std::atomic<bool>> accepted_closed_; // an accepted connection has an endpoint of its own

    SpinLock lock_;
    bool working_ = false; // lock_ guards this member and the next four
    bool abort_ = false;   // the decision that is awaited is given up
    bool reset_ = false;   // what the working thread copies to its context
    JobQueue incoming_;
    std::vector<HoldEvent> events_;

    JobQueue jobs_;
    Job *current_ = nullptr;
    FlowContext context_;
    Authorization authorization_{context_};
    PendingDecision decision_{context_, authorization_, *this};
    Trip trip_{context_, authorization_, decision_};
    TcpConversation tcp_{context_, *this, jobs_};
    bool opened_ = false; // the reference to itself exists
    bool closed_ = false;

    Tuple tuple_; // FlowTable owns this member and the next two
    bool indexed_ = false;
    Flow *next_in_bucket_ = nullptr;
};

// Owns one reference.
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
