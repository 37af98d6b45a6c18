// Part of an addon that is built for tests. An observer stands between the device of a simulated computer and
// JavaScript. It watches one client after the other. When a handle is closed and the driver has broken an invariant,
// the process aborts.
// If NETVERDICT_TEST_READS is `cancel`, `shutdown` or `nothing`, the device is one of a base driver instead.
// That driver's reads keep their thread until this ends them, and no observer watches them.
#include "addon/embedded/embedded_device.h"
#include "ndis/net_buffers.h"
#include "nt/fault_injection.h"
#include "nt/user_wait.h"
#include "support/keeping_device.h"
#include "support/observer.h"
#include "support/wire_records.h"
#include "wfp/engine.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace
{

using netverdict::Device;
using netverdict::EmbeddedDevice;
using netverdict::IoResult;
using netverdict_test::Observer;
using netverdict_test::ReadsEnd;

constexpr int32_t kOutOfMemory = STATUS_INSUFFICIENT_RESOURCES;
constexpr uint32_t kDrainLength = 1 << 16;
constexpr int kRounds = 10'000; // the most waits for counters that still move
constexpr int kLooks = 100;     // a problem must show at each look

std::vector<uint8_t> BytesOf(const NET_BUFFER &buffer)
{
    std::vector<uint8_t> bytes;
    size_t offset = buffer.CurrentMdlOffset;

    for (MDL *mdl = buffer.CurrentMdl; mdl != nullptr && bytes.size() < buffer.DataLength; mdl = mdl->Next)
    {
        const auto *const mapped = static_cast<const uint8_t *>(mdl->MappedSystemVa);
        const size_t length = std::min<size_t>(mdl->ByteCount - offset, buffer.DataLength - bytes.size());

        bytes.insert(bytes.end(), mapped + offset, mapped + offset + length);
        offset = 0;
    }
    return bytes;
}

// Passes the data of reads to the observer in the order of their issue. Two reads may complete at once.
class ReadOrder
{
  public:
    explicit ReadOrder(Observer &observer) : observer_(observer) {}

    uint64_t Issue()
    {
        const std::lock_guard<std::mutex> lock(mutex_);

        return issued_++;
    }

    void Completed(uint64_t number, std::vector<uint8_t> bytes)
    {
        const std::lock_guard<std::mutex> lock(mutex_);

        waiting_.emplace(number, std::move(bytes));
        for (auto next = waiting_.find(passed_); next != waiting_.end(); next = waiting_.find(++passed_))
        {
            observer_.Read(next->second.data(), next->second.size());
            waiting_.erase(next);
        }
    }

  private:
    Observer &observer_;
    std::mutex mutex_;
    uint64_t issued_ = 0;
    uint64_t passed_ = 0;
    std::map<uint64_t, std::vector<uint8_t>> waiting_;
};

// Returns the machine's observer. The first client creates it, before any traffic.
// The machine and its clients share it.
std::shared_ptr<Observer> ObserverOf(sim::Machine &machine)
{
    static std::mutex mutex;
    static std::map<sim::Machine *, std::weak_ptr<Observer>> observers; // under mutex

    const std::lock_guard<std::mutex> lock(mutex);
    std::shared_ptr<Observer> observer = observers[&machine].lock();

    if (observer == nullptr)
    {
        observer = std::make_shared<Observer>();
        observers[&machine] = observer;
        machine.wfp().SetInjectionWatcher(
            [observer](const sim::wfp::Injection &injection)
            {
                if (injection.kind == sim::wfp::Injection::kNetworkSend ||
                    injection.kind == sim::wfp::Injection::kNetworkReceive)
                {
                    const std::vector<uint8_t> bytes = BytesOf(*injection.net_buffer_list->FirstNetBuffer);

                    observer->LetsOut(bytes.data(), bytes.size());
                }
            });
    }
    return observer;
}

class ObservedDevice final : public Device
{
  public:
    explicit ObservedDevice(std::shared_ptr<EmbeddedDevice> device)
        : device_(std::move(device)), observer_(ObserverOf(device_->machine())), reads_(*observer_)
    {
        const sim::Machine::Scope scope(device_->machine());
        const Observer::Counters before = Now();

        device_->machine().Run();
        observer_->Opened(before, before.packets_held == 0 && Now() == before);
    }

    ~ObservedDevice() override { CheckInvariants(); }

    void Read(void *buffer, uint32_t length, Completion completion, void *context) override
    {
        auto read = std::make_unique<PendingRead>(PendingRead{this, reads_.Issue(), buffer, completion, context});

        device_->Read(buffer, length, &PendingRead::Complete, read.release());
    }

    IoResult Write(const void *bytes, uint32_t length) override
    {
        const auto *const commands = static_cast<const uint8_t *>(bytes);

        observer_->Writes(commands, length);
        const IoResult result = device_->Write(bytes, length);

        observer_->Wrote(commands, length, result.information);
        return result;
    }

    IoResult Control(uint32_t code, const void *input, uint32_t input_length, void *output,
                     uint32_t output_length) override
    {
        const auto *const command = static_cast<const uint8_t *>(input);
        const bool updates = code == IOCTL_NETVERDICT_UPDATE_CONNECTION;

        observer_->Controls(code, input, input_length);
        if (updates)
        {
            observer_->Writes(command, input_length);
        }
        const IoResult result = device_->Control(code, input, input_length, output, output_length);

        if (updates)
        {
            observer_->Wrote(command, input_length, NT_SUCCESS(result.status) ? input_length : 0);
        }
        if (code == IOCTL_NETVERDICT_SET_OPTIONS && NT_SUCCESS(result.status))
        {
            observer_->TookOptions(input, input_length, Now());
            options_.assign(command, command + input_length);
        }
        return result;
    }

    void CancelReads() override { device_->CancelReads(); }

  private:
    struct PendingRead
    {
        ObservedDevice *device;
        uint64_t number;
        void *buffer;
        Completion completion;
        void *context;

        static void Complete(void *self, int32_t status, uint64_t information)
        {
            const std::unique_ptr<PendingRead> read(static_cast<PendingRead *>(self));
            const auto *const bytes = static_cast<const uint8_t *>(read->buffer);

            read->device->reads_.Completed(read->number, {bytes, bytes + (NT_SUCCESS(status) ? information : 0)});
            read->completion(read->context, status, information);
        }
    };

    // One read of the records that are left.
    struct Drain
    {
        std::mutex mutex;
        std::condition_variable completed;
        bool is_complete = false;
        int32_t status = 0;

        static void Complete(void *self, int32_t status, uint64_t)
        {
            auto *const drain = static_cast<Drain *>(self);
            const std::lock_guard<std::mutex> lock(drain->mutex);

            drain->status = status;
            drain->is_complete = true;
            drain->completed.notify_all();
        }
    };

    Observer::Counters Now()
    {
        STATISTICS_FIELDS_WIRE statistics{};

        device_->Control(IOCTL_NETVERDICT_GET_STATISTICS, nullptr, 0, &statistics, sizeof(statistics));
        return {statistics.EventsQueued,      statistics.EventsDelivered,
                statistics.EventsLost,        statistics.VerdictsApplied,
                statistics.VerdictsUnknownId, statistics.PacketsHeld,
                statistics.ClientStalls,      device_->machine().faults().all_failures()};
    }

    // Reads until a read is pending or the stream has ended.
    void ReadAllThatIsLeft()
    {
        std::vector<uint8_t> buffer(kDrainLength);
        int32_t status;

        do
        {
            Drain drain;

            {
                // A base client's read waits before it returns.
                const sim::nt::WhileWaiting cancel([this] { device_->CancelReads(); });

                Read(buffer.data(), kDrainLength, &Drain::Complete, &drain);
            }
            device_->CancelReads();
            std::unique_lock<std::mutex> lock(drain.mutex);
            drain.completed.wait(lock, [&] { return drain.is_complete; });
            status = drain.status;
        } while (NT_SUCCESS(status) || status == kOutOfMemory);
    }

    // Traffic may continue for a while after it was stopped. Returns false if the counters never rest.
    bool ComeToRest(Observer::Counters *counters)
    {
        for (int round = 0; round < kRounds; round++)
        {
            ReadAllThatIsLeft();
            const Observer::Counters before = Now();

            device_->machine().Run();
            ReadAllThatIsLeft();
            *counters = Now();
            if (before == *counters)
            {
                return true;
            }
        }
        return false;
    }

    std::vector<std::string> Problems(const Observer::Counters &counters)
    {
        std::vector<std::string> problems = observer_->Problems(counters);
        const uint64_t pended = device_->machine().wfp().counters().pended_now;

        if (pended > counters.packets_held)
        {
            problems.push_back(std::to_string(pended) + " operations are pended and " +
                               std::to_string(counters.packets_held) + " held");
        }
        return problems;
    }

    // Whoever closes the device lives: without this each question that is left would be waited for as in a stall.
    void EndStalls()
    {
        const size_t at = offsetof(OPTIONS_WIRE, StallTimeoutMs);

        if (options_.size() >= at + sizeof(UINT32))
        {
            std::fill_n(options_.begin() + at, sizeof(UINT32), uint8_t{0});
            device_->Control(IOCTL_NETVERDICT_SET_OPTIONS, options_.data(), static_cast<uint32_t>(options_.size()),
                             nullptr, 0);
        }
    }

    // Another thread may have counted only a part of a packet: a true problem is still there at the last look.
    void CheckInvariants()
    {
        const sim::Machine::Scope scope(device_->machine());
        std::vector<std::string> problems;

        EndStalls();
        for (int look = 0; look < kLooks; look++)
        {
            Observer::Counters counters;

            if (!ComeToRest(&counters))
            {
                return;
            }
            problems = Problems(counters);
            if (problems.empty())
            {
                return;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        for (const std::string &problem : problems)
        {
            std::fprintf(stderr, "INVARIANT %s\n", problem.c_str());
        }
        std::abort();
    }

    const std::shared_ptr<EmbeddedDevice> device_;
    const std::shared_ptr<Observer> observer_;
    ReadOrder reads_;
    std::vector<uint8_t> options_; // that the driver has accepted last
};

// Makes the device that stands between a simulated computer and JavaScript.
std::shared_ptr<Device> Wrap(std::shared_ptr<EmbeddedDevice> device)
{
    const char *const reads = std::getenv("NETVERDICT_TEST_READS");

    if (reads == nullptr)
    {
        return std::make_shared<ObservedDevice>(std::move(device));
    }
    const std::string ends = reads;

    return netverdict_test::KeepReads(std::move(device), ends == "cancel"     ? ReadsEnd::kByCancel
                                                         : ends == "shutdown" ? ReadsEnd::kByShutdown
                                                                              : ReadsEnd::kByNothing);
}

[[maybe_unused]] const bool wrapped = []
{
    EmbeddedDevice::wrapper = &Wrap;
    return true;
}();

} // namespace
