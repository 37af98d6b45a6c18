#include "win32_device.h"

#include <windows.h>

#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "../status.h"
#include "win32_status.h"

namespace netverdict
{

namespace
{

constexpr DWORD kRequestLimitMs = 30'000; // the driver answers at once, unless it is stuck

// Returns true if the request began, so that its completion comes. A warning is such an error too.
bool HasBegun(DWORD error)
{
    return error == ERROR_IO_PENDING || error == ERROR_MORE_DATA;
}

// The status and length with which the driver completed a request.
IoResult ResultOf(const OVERLAPPED &overlapped)
{
    return {static_cast<int32_t>(overlapped.Internal), overlapped.InternalHigh};
}

// A program may define `\\.\name` anew for its own logon session. `Global` is the directory of all sessions.
std::wstring GlobalName(const std::u16string &path)
{
    constexpr size_t kPrefixLength = 4; // `\\.\`

    return L"\\\\.\\Global\\" + std::wstring(path.begin() + kPrefixLength, path.end());
}

struct ReadRequest
{
    OVERLAPPED overlapped{};
    Device::Completion completion = nullptr;
    void *context = nullptr;
};

// The thread that issues reads. A driver may keep it within one.
class ReadingThread
{
  public:
    ReadingThread() = default;
    ~ReadingThread()
    {
        if (thread_ != nullptr)
        {
            ::CloseHandle(thread_);
        }
    }

    ReadingThread(const ReadingThread &) = delete;
    ReadingThread &operator=(const ReadingThread &) = delete;

    // Called by that thread before and after each read.
    void Enter()
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (thread_ == nullptr)
        {
            // Without a handle, cancelling by the file is all that is left.
            (void)DuplicateHandle(GetCurrentProcess(), GetCurrentThread(), GetCurrentProcess(), &thread_,
                                  THREAD_TERMINATE, FALSE, 0);
        }
        in_read_ = true;
    }
    void Leave()
    {
        std::lock_guard<std::mutex> lock(mutex_);
        in_read_ = false;
    }

    // Cancels the read that the thread is in.
    void Cancel()
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (in_read_ && thread_ != nullptr)
        {
            CancelSynchronousIo(thread_);
        }
    }

  private:
    std::mutex mutex_;
    HANDLE thread_ = nullptr;
    bool in_read_ = false;
};

} // namespace

struct Win32Device::State
{
    HANDLE file = INVALID_HANDLE_VALUE;
    HANDLE port = nullptr;
    HANDLE answered = nullptr; // the event of the one write or control
    std::thread completer;
    ReadingThread reading;

    ~State()
    {
        if (completer.joinable())
        {
            PostQueuedCompletionStatus(port, 0, 0, nullptr);
            completer.join();
        }
        if (file != INVALID_HANDLE_VALUE)
        {
            ::CloseHandle(file);
        }
        if (port != nullptr)
        {
            ::CloseHandle(port);
        }
        if (answered != nullptr)
        {
            ::CloseHandle(answered);
        }
    }

    // An event handle with the lowest bit set keeps the completion of a request away from the port.
    OVERLAPPED MakeOverlapped() const
    {
        OVERLAPPED overlapped{};
        overlapped.hEvent = reinterpret_cast<HANDLE>(reinterpret_cast<ULONG_PTR>(answered) | 1);
        return overlapped;
    }

    IoResult Await(BOOL done, OVERLAPPED *overlapped)
    {
        if (!done)
        {
            const DWORD error = GetLastError();
            if (!HasBegun(error))
            {
                return {StatusFromWin32(error), 0};
            }
        }
        if (WaitForSingleObject(answered, kRequestLimitMs) == WAIT_OBJECT_0)
        {
            return ResultOf(*overlapped);
        }
        // The request must end before its memory does.
        CancelIoEx(file, overlapped);
        WaitForSingleObject(answered, INFINITE);
        return {kStatusIoTimeout, 0};
    }

    void Complete()
    {
        for (;;)
        {
            DWORD bytes = 0;
            ULONG_PTR key = 0;
            OVERLAPPED *overlapped = nullptr;
            GetQueuedCompletionStatus(port, &bytes, &key, &overlapped, INFINITE);
            if (overlapped == nullptr)
            {
                return;
            }
            std::unique_ptr<ReadRequest> request(CONTAINING_RECORD(overlapped, ReadRequest, overlapped));
            const IoResult result = ResultOf(*overlapped);
            request->completion(request->context, result.status, result.information);
        }
    }
};

Win32Device::Win32Device(std::unique_ptr<State> state) : state_(std::move(state)) {}

Win32Device::~Win32Device() = default;

int32_t Win32Device::Open(const std::u16string &path, std::unique_ptr<Win32Device> *device)
{
    auto state = std::make_unique<State>();
    // A driver that is not ours cannot impersonate this process.
    state->file = CreateFileW(GlobalName(path).c_str(), GENERIC_READ | GENERIC_WRITE, 0, nullptr, OPEN_EXISTING,
                              FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_ANONYMOUS, nullptr);
    if (state->file == INVALID_HANDLE_VALUE)
    {
        return OpenStatusFromWin32(GetLastError());
    }
    state->answered = CreateEventW(nullptr, TRUE, FALSE, nullptr);
    state->port = CreateIoCompletionPort(state->file, nullptr, 1, 1);
    if (state->answered == nullptr || state->port == nullptr)
    {
        return StatusFromWin32(GetLastError());
    }
    try
    {
        state->completer = std::thread([raw = state.get()] { raw->Complete(); });
    }
    catch (const std::system_error &)
    {
        return kStatusInsufficientResources;
    }
    device->reset(new Win32Device(std::move(state)));
    return 0;
}

void Win32Device::Read(void *buffer, uint32_t length, Completion completion, void *context)
{
    std::unique_ptr<ReadRequest> request(new (std::nothrow) ReadRequest);
    if (!request)
    {
        completion(context, kStatusInsufficientResources, 0);
        return;
    }
    request->completion = completion;
    request->context = context;
    state_->reading.Enter();
    const BOOL done = ReadFile(state_->file, buffer, length, nullptr, &request->overlapped);
    const DWORD error = GetLastError();
    state_->reading.Leave();
    if (!done)
    {
        if (!HasBegun(error))
        {
            completion(context, StatusFromWin32(error), 0);
            return;
        }
    }
    request.release(); // the port has it, even if the read has ended already
}

IoResult Win32Device::Write(const void *bytes, uint32_t length)
{
    OVERLAPPED overlapped = state_->MakeOverlapped();
    const BOOL done = WriteFile(state_->file, bytes, length, nullptr, &overlapped);
    return state_->Await(done, &overlapped);
}

IoResult Win32Device::Control(uint32_t code, const void *input, uint32_t input_length, void *output,
                              uint32_t output_length)
{
    OVERLAPPED overlapped = state_->MakeOverlapped();
    const BOOL done = DeviceIoControl(state_->file, code, const_cast<void *>(input), input_length, output,
                                      output_length, nullptr, &overlapped);
    return state_->Await(done, &overlapped);
}

void Win32Device::CancelReads()
{
    CancelIoEx(state_->file, nullptr);
    state_->reading.Cancel();
}

} // namespace netverdict
