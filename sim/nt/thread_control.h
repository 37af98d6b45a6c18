// What other threads may do to a thread of user mode: terminate it, or queue a user APC to it.
//
// Termination acts where the thread returns to user mode. It interrupts every wait in UserMode.
// A user APC interrupts only an alertable wait. It is delivered if that was a wait in UserMode.
// Nothing interrupts a wait inside a critical region.
// (Windows driver documentation: "Waits and APCs", "Disabling APCs")
//
// Concurrency: any thread may call Terminate and QueueUserApc. The thread itself calls the other functions.
#pragma once

#include <ntddk.h>

#include <atomic>
#include <deque>
#include <functional>
#include <mutex>

namespace sim::nt
{

// Thrown where a terminated thread would return to user mode. No frame of the driver is then on the stack.
struct ThreadTerminated
{
};

class ThreadControl
{
  public:
    // The caller wakes the scheduler afterwards.
    void Terminate() { terminated_.store(true); }
    void QueueUserApc(std::function<void()> apc);

    bool terminated() const { return terminated_.load(); }
    bool MustLeaveWait(KPROCESSOR_MODE mode, bool alertable) const
    {
        return (mode == UserMode && terminated()) || (alertable && apcs_queued_.load());
    }

    // A wait was interrupted: the return to user mode delivers the user APCs.
    void WaitInterrupted(KPROCESSOR_MODE mode) { delivers_apcs_ = mode == UserMode; }

    // Throws ThreadTerminated, or delivers user APCs, or does nothing.
    void EnterKernel() const;
    void ReturnToUserMode();

    std::atomic<bool> waiting{false};     // the thread waits in the kernel
    std::atomic<uint32_t> outstanding{0}; // requests of the thread that have not completed

  private:
    std::atomic<bool> terminated_{false};
    std::atomic<bool> apcs_queued_{false};
    bool delivers_apcs_ = false;
    std::mutex mutex_; // guards apcs_
    std::deque<std::function<void()>> apcs_;
};

// For a system call of the calling thread, which may be a thread without a control.
void EnterKernel();
void ReturnToUserMode();

// The control of the calling thread if something may end a wait of it, or nullptr.
// The thread asks before it waits, because any thread may evaluate the wait's condition.
const ThreadControl *InterruptibleThread();

} // namespace sim::nt
