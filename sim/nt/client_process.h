// A process of user mode: its threads and its handles. It may be killed at any time.
//
// A killed thread ends where it returns to user mode, or would enter the kernel. Then its requests are cancelled.
// A killed process closes its handles once all its threads have ended.
//
// Concurrency: every function may be called from any thread that is none of the process.
#pragma once

#include <ntddk.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "nt/thread_control.h"

namespace sim
{
class Machine;
}

namespace sim::nt
{

class ClientProcess;
class File;

class ClientThread
{
  public:
    // The routine runs on a host thread of its own. It may use IoManager, but not open or close handles.
    ClientThread(ClientProcess &process, std::function<void()> routine);
    ~ClientThread(); // waits until the thread has ended

    ClientThread(const ClientThread &) = delete;
    ClientThread &operator=(const ClientThread &) = delete;

    // TerminateThread and QueueUserAPC. Both return at once.
    void Terminate();
    void QueueUserApc(std::function<void()> apc);

    // Waits until the thread waits in the kernel, or has ended.
    void AwaitWaiting();

    // Waits until the thread has ended and its requests have completed. Bugchecks if that takes too long.
    void Join();

    bool ended() const { return ended_; }

  private:
    void Main(const std::function<void()> &routine);
    void Exit();

    ClientProcess &process_;
    ThreadControl control_;
    std::atomic<bool> ended_{false};
    std::thread thread_;
};

class ClientProcess
{
  public:
    explicit ClientProcess(Machine &machine) : machine_(machine) {}
    ~ClientProcess() { Kill(); }

    ClientProcess(const ClientProcess &) = delete;
    ClientProcess &operator=(const ClientProcess &) = delete;

    // A handle that the end of the process closes.
    NTSTATUS Open(const std::u16string &name, File **file);
    void Close(File *file);

    // The thread lives as long as the process.
    ClientThread &Start(std::function<void()> routine);

    // Terminates all threads, waits until they have ended, and closes all handles.
    void Kill();

    Machine &machine() { return machine_; }
    std::vector<File *> files();

  private:
    Machine &machine_;
    std::vector<std::unique_ptr<ClientThread>> threads_;
    std::mutex mutex_; // guards files_
    std::vector<File *> files_;
};

} // namespace sim::nt
