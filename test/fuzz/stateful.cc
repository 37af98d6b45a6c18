// Fuzzes sequences of connections, packets, fragments, commands of any bytes, and reads of any size.
// It also cancels, closes handles, advances time, sleeps, fails memory and injections, and unloads.
// A model follows every step and checks the invariants in every state (model.h).
#include "computer.h"
#include "model.h"

#include "nt/callback_object.h"
#include "nt/user_wait.h"
#include "support/async_read.h"
#include "support/commands.h"

#include <deque>
#include <utility>

namespace
{

using fuzz::ByteVector;
using fuzz::Flow;
using fuzz::Network;

constexpr size_t kMostReads = 6;
constexpr size_t kMostSteps = 400;
constexpr size_t kDrainLength = 4096;

class Life
{
  public:
    explicit Life(fuzz::Input &input)
        : input_(input), machine_(kext_test::StandingClock()), scope_(machine_), network_(machine_), driver_(machine_)
    {
        strict_ = input_.Bool();
        Load();
        Open();
    }

    ~Life()
    {
        Close(true);
        Unload();
    }

    Life(const Life &) = delete;
    Life &operator=(const Life &) = delete;

    void Step();

  private:
    void Load()
    {
        ASSERT_EQ(driver_.Load(), STATUS_SUCCESS);
        network_.TakeReauthorized();
        client_ = std::make_unique<fuzz::Client>(machine_);
        network_.SetObserver(&client_->observer());
    }

    void Unload()
    {
        driver_.Unload();
        Settle();
        for (const std::shared_ptr<int> &completions : pended_)
        {
            EXPECT_EQ(*completions, 1) << "a pended operation";
        }
        pended_.clear();
        model_.Reloaded();
    }

    void Open()
    {
        if (client_->file() != nullptr)
        {
            return;
        }
        model_.SetStrict(false);
        ASSERT_EQ(client_->Open(), STATUS_SUCCESS);
        model_.Attached();
        delivered_before_ = client_->GetStatistics().EventsDelivered;
        client_->observer().OthersMayDecide(); // the model gets this event at the right moment
        if (strict_)
        {
            SetOptions();
            model_.SetStrict(true);
        }
    }

    // `whole`: all records are read first and must be valid. Otherwise the client closes as if it were killed.
    void Close(bool whole)
    {
        if (client_->file() == nullptr)
        {
            return;
        }
        if (whole)
        {
            ReadToTheEnd();
        }
        else
        {
            client_->StopObserving();
        }
        model_.OthersMayDecide();
        client_->Close();
        TakeReads();
        EXPECT_TRUE(reads_.empty()) << "a read outlived its handle";
        Settle();
        model_.Detached();
    }

    void TellReliability() { model_.SetReliable(!injections_fail_ && !calls_fail_); }

    void ReadToTheEnd();
    void SetOptions();
    void Write(const ByteVector &bytes);
    void Issue(size_t length);
    void ActWhileWaiting(kext_test::AsyncRead *read);
    void TakeReads();
    void Drain();
    void Settle();
    void Authorize();
    void Send();
    void SendFragment();
    void SendRaw();
    void CountBytes();
    void End();
    void Advance();
    void Sleep();
    void Injections();
    void Fail();

    Flow ReadFlow()
    {
        choice_ = input_.Byte();

        Flow flow = fuzz::Computer::FlowOf(choice_);

        if ((choice_ & 0xC0) == 0xC0)
        {
            flow.protocol = PROTOCOL_TCP;
            flow.remote = flow.local;
            flow.remote.port = 53; // the client's own resolver
        }
        return flow;
    }

    // A payload that ends in a unique number.
    ByteVector NextPayload()
    {
        ByteVector payload(4 + input_.Byte() % 64, 'n');

        serial_++;
        std::memcpy(payload.data() + payload.size() - 4, &serial_, 4);
        return payload;
    }

    fuzz::Input &input_;
    fuzz::Model model_;
    sim::Machine machine_;
    sim::Machine::Scope scope_;
    Network network_;
    kext_test::DriverLoader driver_;
    std::unique_ptr<fuzz::Client> client_; // of this load of the driver; ids start again with the next load
    bool strict_ = false;
    bool injections_fail_ = false;
    bool calls_fail_ = false;
    uint8_t choice_ = 0;
    uint32_t serial_ = 0x01000000;
    // Reads complete in any order; their data has the order in which they were issued.
    std::deque<std::unique_ptr<kext_test::AsyncRead>> reads_;
    kext_test::AsyncRead *waiting_ = nullptr; // waits in the kernel, further out on the stack: its handle stays open
    NTSTATUS last_read_status_ = STATUS_SUCCESS;
    uint64_t delivered_before_ = 0; // records delivered to earlier clients
    std::chrono::milliseconds passed_{0};
    std::vector<std::shared_ptr<int>> pended_;
};

void Life::SetOptions()
{
    OPTIONS_WIRE options = fuzz::Client::DefaultOptions();

    options.Flags =
        input_.Byte() & (OPTION_FLAG_EXTENDED_RECORDS | OPTION_FLAG_FAIL_CLOSED | OPTION_FLAG_CONNECTION_INFO);
    options.PayloadLimit = input_.Byte();
    options.MaxHeldPackets = 1u + input_.Byte();
    options.MaxQueuedBytes = input_.Byte() * 1024u;
    options.LogLevel = static_cast<UINT8>(1 + input_.Below(6));
    options.PendingTimeoutMs = input_.Byte() * 10u;
    options.TimeoutVerdict = static_cast<UINT8>(VerdictAccept + input_.Below(5));
    if (strict_)
    {
        options.Flags |= OPTION_FLAG_FAIL_CLOSED;
        options.TimeoutVerdict = VerdictDrop;
    }
    EXPECT_EQ(client_->SetOptions(options), STATUS_SUCCESS);
}

void Life::Write(const ByteVector &bytes)
{
    if (IoQueueHasRefused(&driver_.context()->Queue))
    {
        model_.OthersMayDecide();
    }
    model_.Written(bytes);

    const sim::nt::IoResult result = client_->Write(bytes);

    EXPECT_LE(result.information, bytes.size());
}

void Life::Issue(size_t length)
{
    if (reads_.size() >= kMostReads)
    {
        return;
    }
    reads_.push_back(std::make_unique<kext_test::AsyncRead>());

    kext_test::AsyncRead *const read = reads_.back().get();
    {
        const sim::nt::WhileWaiting others([this, read] { ActWhileWaiting(read); });

        read->Start(machine_.io(), client_->file(), length);
    }
    TakeReads();
}

// What the other threads do while a base client's read waits in the kernel. At the end it has a record or is cancelled.
void Life::ActWhileWaiting(kext_test::AsyncRead *read)
{
    kext_test::AsyncRead *const outer = std::exchange(waiting_, read);

    for (uint32_t steps = outer == nullptr ? input_.Below(4) : 0; steps != 0 && !input_.empty(); steps--)
    {
        Step();
    }
    waiting_ = outer;
    if (outer != nullptr || IoQueueBytes(&driver_.context()->Queue) == 0)
    {
        machine_.io().Cancel(client_->file(), read);
    }
}

void Life::TakeReads()
{
    while (!reads_.empty() && reads_.front()->done)
    {
        const std::unique_ptr<kext_test::AsyncRead> read = std::move(reads_.front());

        reads_.pop_front();
        last_read_status_ = read->status;
        EXPECT_TRUE(NT_SUCCESS(read->status) || read->information == 0);
        model_.Read(read->buffer.data(), read->information);
        client_->observer().Read(read->buffer.data(), read->information);
    }
}

// Reads until a read waits or the stream has ended.
void Life::Drain()
{
    do
    {
        Settle();
        Issue(kDrainLength);
    } while (reads_.empty() && NT_SUCCESS(last_read_status_));
}

void Life::ReadToTheEnd()
{
    machine_.io().CancelAll(client_->file());
    TakeReads();
    Drain();
    machine_.io().CancelAll(client_->file());
    TakeReads();
    EXPECT_EQ(model_.records(), client_->GetStatistics().EventsDelivered - delivered_before_);
}

void Life::Settle()
{
    for (const kext_test::Injected &injected : network_.TakeInjected())
    {
        uint32_t serial;

        if (injected.bytes.size() >= sizeof(serial))
        {
            std::memcpy(&serial, injected.bytes.data() + injected.bytes.size() - sizeof(serial), sizeof(serial));
            model_.Injected(serial, injected.kind == kext_test::Injection::kTransportSend);
        }
    }
    model_.Settled();
    network_.TakeReauthorized();
}

void Life::Authorize()
{
    const Flow flow = ReadFlow();
    const uint8_t how = input_.Byte();
    const ByteVector packet = kext_test::MakePacket(flow, (how & 1) != 0, NextPayload());
    kext_test::AleOptions options;

    options.reauthorize = (how & 2) != 0;
    options.loopback = (how & 4) != 0;
    options.process_path = (how & 8) != 0 ? u"\\device\\app.exe" : u"";
    if (options.reauthorize && (how & 16) != 0)
    {
        options.packet_direction = (how & 1) != 0 ? FWP_DIRECTION_INBOUND : FWP_DIRECTION_OUTBOUND;
    }
    if ((how & 32) != 0)
    {
        options.control_data = ByteVector(24, 7);
    }

    const bool packetless = (how & 64) != 0;
    const Network::Answer answer = (how & 1) != 0 ? network_.Accept(flow, packetless ? nullptr : &packet, options)
                                                  : network_.Connect(flow, packetless ? nullptr : &packet, options);

    if (answer.pended())
    {
        pended_.push_back(answer.completions);
    }
    // The packet of a permitted authorization continues to the packet layer.
    if (!packetless && !answer.permitted())
    {
        model_.Arrived(serial_, flow, false);
    }
}

void Life::Send()
{
    const Flow flow = ReadFlow();
    const uint8_t how = input_.Byte();
    const ByteVector packet = kext_test::MakePacket(flow, (how & 1) != 0, NextPayload());
    const uint32_t serial = serial_;

    if ((how & 1) != 0)
    {
        model_.Arrived(serial, flow, network_.Inbound(packet, (how & 2) != 0).permitted());
    }
    else
    {
        const bool permitted = network_.Outbound({{packet}}, (how & 4) != 0 ? 9 : 0).permitted();

        if (flow.local.address != flow.remote.address)
        {
            model_.Sent(serial, flow, permitted);
        }
    }
}

void Life::SendFragment()
{
    const Flow flow = ReadFlow();
    const uint8_t how = input_.Byte();
    const bool inbound = (how & 1) != 0;
    const ByteVector packet = kext_test::MakePacket(flow, inbound, ByteVector(96, 'f'));
    ByteVector fragment = kext_test::Fragment(packet, input_.Byte() % 12 * 8, 8 + input_.Byte() % 12 * 8, how >> 5);

    serial_++;
    std::memcpy(fragment.data() + fragment.size() - 4, &serial_, 4);
    if (inbound)
    {
        model_.Arrived(serial_, flow, network_.Inbound(fragment, (how & 2) != 0).permitted(), true);
        return;
    }

    const bool permitted = network_.Outbound(fragment).permitted();

    if (flow.local.address != flow.remote.address)
    {
        model_.Sent(serial_, flow, permitted, true);
    }
}

void Life::SendRaw()
{
    const bool inbound = input_.Bool();
    const ByteVector packet = input_.Bytes(1 + input_.Byte());

    if (packet.empty())
    {
        return;
    }
    if (!inbound)
    {
        network_.Outbound(packet);
    }
    else if (packet.size() >= kext_test::HeaderLength(packet))
    {
        network_.Inbound(packet, input_.Bool());
    }
}

void Life::CountBytes()
{
    const Flow flow = ReadFlow();
    const bool inbound = input_.Bool();

    if (flow.protocol == PROTOCOL_TCP)
    {
        network_.Stream(flow, inbound, input_.Number<uint16_t>());
    }
    else
    {
        network_.Datagrams(flow, inbound, {{kext_test::MakePacket(flow, inbound)}});
    }
}

void Life::End()
{
    const Flow flow = ReadFlow();
    const uint8_t how = input_.Byte();

    model_.Ended(flow.protocol, flow.local);
    switch (how % 3)
    {
    case 0:
        network_.Close(flow);
        break;
    case 1:
        network_.Release(flow.protocol, flow.local);
        break;
    default:
        network_.Bind(flow.protocol, flow.local, 1234);
    }
}

void Life::Advance()
{
    constexpr std::chrono::seconds kMost{4 * CONNECTION_IDLE_SECONDS};
    const uint32_t choice = input_.Byte();
    const std::chrono::milliseconds time = choice == 0xFF ? std::chrono::seconds(CONNECTION_IDLE_SECONDS + 1)
                                                          : std::chrono::milliseconds(uint64_t{1} << choice % 15);

    if (passed_ + time > kMost)
    {
        return;
    }
    passed_ += time;
    if (passed_ >= std::chrono::seconds(CONNECTION_IDLE_SECONDS))
    {
        model_.Aged();
    }
    model_.OthersMayDecide();
    machine_.clock().Advance(time);
}

// Leaves the working state or comes back, in any order, or sleeps.
void Life::Sleep()
{
    const uint32_t choice = input_.Below(4);

    model_.OthersMayDecide();
    if (choice < 2)
    {
        machine_.power_state().Notify(PO_CB_SYSTEM_STATE_LOCK, choice);
        return;
    }
    machine_.Sleep(std::chrono::hours(1), choice == 2 ? sim::SleepKind::kStandby : sim::SleepKind::kModernStandby);
}

void Life::Injections()
{
    constexpr sim::wfp::InjectionBehavior kBehaviors[] = {
        {sim::wfp::InjectionBehavior::kDeferred, STATUS_SUCCESS},
        {sim::wfp::InjectionBehavior::kInline, STATUS_SUCCESS},
        {sim::wfp::InjectionBehavior::kFail, STATUS_INSUFFICIENT_RESOURCES},
        {sim::wfp::InjectionBehavior::kDeferred, STATUS_UNSUCCESSFUL},
    };

    const sim::wfp::InjectionBehavior &behavior = kBehaviors[input_.Below(4)];

    injections_fail_ = !NT_SUCCESS(behavior.status);
    TellReliability();
    machine_.wfp().SetInjectionBehavior(behavior);
}

void Life::Fail()
{
    calls_fail_ = input_.Bool();
    TellReliability();
    if (calls_fail_)
    {
        network_.FailNth(input_.Byte() % 16, input_.Bool());
    }
    else
    {
        network_.StopFailing();
    }
}

void Life::Step()
{
    const uint8_t step = input_.Byte() % 24;
    const bool attached = client_->file() != nullptr;

    if (waiting_ != nullptr && (step == 15 || step == 16))
    {
        return;
    }
    switch (step)
    {
    case 0:
    case 1:
        Authorize();
        break;
    case 2:
    case 3:
    case 4:
        Send();
        break;
    case 5:
        SendFragment();
        break;
    case 6:
        SendRaw();
        break;
    case 7:
        CountBytes();
        break;
    case 8:
        End();
        break;
    case 9:
        Injections();
        break;
    case 10:
        machine_.wfp().SetPendFailure(input_.Bool() ? STATUS_FWP_CANNOT_PEND : STATUS_SUCCESS);
        break;
    case 11:
        Fail();
        break;
    case 12:
        Advance();
        break;
    case 13:
        Sleep();
        break;
    case 14:
        Settle();
        break;
    case 15:
        if (attached)
        {
            Close(!input_.Bool());
        }
        else
        {
            Open();
        }
        break;
    case 16:
        if (input_.Byte() < 16)
        {
            Close(true);
            Unload();
            Load();
        }
        Open();
        break;
    default:
        if (!attached)
        {
            Open();
            break;
        }
        switch (step)
        {
        case 17:
            Write(input_.Bytes(input_.Byte()));
            break;
        case 18:
        case 19:
            if (model_.ids().empty())
            {
                Drain();
            }
            if (!model_.ids().empty())
            {
                const std::vector<uint64_t> &ids = model_.ids();

                Write(kext_test::VerdictBytes(ids[ids.size() - 1 - input_.Byte() % ids.size()],
                                              static_cast<uint8_t>(input_.Below(VerdictCount + 1))));
            }
            break;
        case 20:
        {
            const Flow flow = ReadFlow();

            Write(kext_test::UpdateBytes(flow, static_cast<uint8_t>(input_.Below(VerdictCount))));
            break;
        }
        case 21:
            Issue(input_.Bool() ? input_.Number<uint16_t>() : 1u + input_.Byte() % 64);
            break;
        case 22:
            if (!reads_.empty())
            {
                const size_t which = input_.Below(static_cast<uint32_t>(reads_.size()));

                if (!reads_[which]->done)
                {
                    machine_.io().Cancel(client_->file(), reads_[which].get());
                    EXPECT_TRUE(reads_[which]->done || reads_[which].get() == waiting_) << "a cancelled read";
                }
            }
            else
            {
                machine_.io().CancelAll(client_->file());
            }
            break;
        default:
            if (!strict_ && input_.Bool())
            {
                SetOptions();
            }
            else
            {
                Drain();
            }
        }
    }
    TakeReads();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz::Input input(data, size);
    Life life(input);

    for (size_t steps = 0; !input.empty() && steps < kMostSteps; steps++)
    {
        life.Step();
    }
    return 0;
}
