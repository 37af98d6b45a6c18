#include "nt/client_process.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/io_manager.h"
#include "nt/scheduler.h"
#include "nt/thread_state.h"

namespace sim::nt
{

namespace
{

// The longest time that a thread may take to leave the kernel, and its requests to complete.
// On a machine without a worker, only other threads can let them.
std::chrono::seconds ExitLimit(Machine &machine)
{
    return std::chrono::seconds(machine.options().worker ? 30 : 2);
}

} // namespace

ClientThread::ClientThread(ClientProcess &process, std::function<void()> routine)
    : process_(process), thread_([this, routine = std::move(routine)] { Main(routine); })
{
}

ClientThread::~ClientThread()
{
    Join();
}

void ClientThread::Main(const std::function<void()> &routine)
{
    Machine::Scope scope(process_.machine());

    thread_state.control = &control_;
    try
    {
        routine();
    }
    catch (const ThreadTerminated &)
    {
    }
    Exit();
    ended_ = true;
    process_.machine().scheduler().Wake();
}

// As on Windows, the end of a thread cancels its requests and waits for them.
void ClientThread::Exit()
{
    Machine &machine = process_.machine();

    for (File *file : process_.files())
    {
        machine.io().CancelAll(file, &control_);
    }
    if (!machine.scheduler().WaitUntil([this] { return control_.outstanding == 0; }, ExitLimit(machine)))
    {
        Bugcheck("IRP_LEFT_AFTER_THREAD", "%u request(s) of a thread were not completed after the thread ended",
                 control_.outstanding.load());
    }
}

void ClientThread::Terminate()
{
    control_.Terminate();
    process_.machine().scheduler().Wake();
}

void ClientThread::QueueUserApc(std::function<void()> apc)
{
    control_.QueueUserApc(std::move(apc));
    process_.machine().scheduler().Wake();
}

void ClientThread::AwaitWaiting()
{
    process_.machine().scheduler().WaitUntil([this] { return control_.waiting || ended_; });
}

void ClientThread::Join()
{
    if (!thread_.joinable())
    {
        return;
    }
    if (!process_.machine().scheduler().WaitUntil([this] { return ended_.load(); }, ExitLimit(process_.machine())))
    {
        Bugcheck("THREAD_NOT_TERMINATED", "a thread of user mode did not end: it waits in the kernel");
    }
    thread_.join();
}

NTSTATUS ClientProcess::Open(const std::u16string &name, File **file)
{
    const NTSTATUS status = machine_.io().Open(name, file);

    if (NT_SUCCESS(status))
    {
        std::lock_guard<std::mutex> lock(mutex_);

        files_.push_back(*file);
    }
    return status;
}

void ClientProcess::Close(File *file)
{
    {
        std::lock_guard<std::mutex> lock(mutex_);

        files_.erase(std::remove(files_.begin(), files_.end(), file), files_.end());
    }
    machine_.io().Close(file);
}

ClientThread &ClientProcess::Start(std::function<void()> routine)
{
    threads_.push_back(std::make_unique<ClientThread>(*this, std::move(routine)));
    return *threads_.back();
}

void ClientProcess::Kill()
{
    for (const auto &thread : threads_)
    {
        thread->Terminate();
    }
    for (const auto &thread : threads_)
    {
        thread->Join();
    }
    for (File *file : files())
    {
        Close(file);
    }
}

std::vector<File *> ClientProcess::files()
{
    std::lock_guard<std::mutex> lock(mutex_);

    return files_;
}

} // namespace sim::nt
