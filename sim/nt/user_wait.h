// The rules for a driver that waits in UserMode, for a client's thread.
//
// In a critical region or at APC_LEVEL the thread could not be terminated.
// (Windows driver documentation: "Waits and APCs", "Disabling APCs")
// Windows may unmap the thread's kernel stack during the wait, so nothing on it may be touched by others.
// (Windows driver documentation: KeWaitForSingleObject, remarks on WaitMode)
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace sim::nt
{

// Stands around a wait. Bugchecks where a rule is broken, at the latest when the wait ends.
class UserModeWait
{
  public:
    // `frame` is the stack frame of the kernel function that waits. The driver's frames lie above it.
    UserModeWait(const void *object, const void *frame);
    ~UserModeWait();

    UserModeWait(const UserModeWait &) = delete;
    UserModeWait &operator=(const UserModeWait &) = delete;

  private:
    const uint8_t *stack_;
    size_t bytes_;
    std::vector<uint8_t> before_; // empty with the address sanitizer, which then watches the stack itself
};

// For tests with one thread. While it lives, `act` is called whenever this thread is about to wait in UserMode.
// It stands for what other threads do meanwhile. `act` may make system calls; these do not call `act`.
class WhileWaiting
{
  public:
    explicit WhileWaiting(std::function<void()> act);
    ~WhileWaiting();

    WhileWaiting(const WhileWaiting &) = delete;
    WhileWaiting &operator=(const WhileWaiting &) = delete;

    // For the kernel: calls the calling thread's `act`.
    static void Act();

  private:
    const std::function<void()> act_;
    const std::function<void()> *previous_;
};

} // namespace sim::nt
