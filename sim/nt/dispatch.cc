// The steps of a request: created, passed to the dispatch routine, completed, and perhaps cancelled.

#include <ntddk.h>

#include <cstring>
#include <vector>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/driver_call.h"
#include "nt/io_state.h"
#include "nt/irql.h"
#include "nt/pool.h"
#include "nt/scheduler.h"
#include "nt/thread_control.h"

namespace sim::nt
{

namespace
{

constexpr CSHORT kIrpType = 6;
constexpr ULONG kSystemBufferTag = 'BSoI';

const char *NameOf(const Request *request)
{
    return MajorFunctionName(request->spec.major);
}

bool IsTransfer(UCHAR major)
{
    return major == IRP_MJ_READ || major == IRP_MJ_WRITE;
}

bool IsListed(UCHAR major)
{
    return IsTransfer(major) || major == IRP_MJ_DEVICE_CONTROL;
}

// Returns the largest value allowed for IoStatus.Information, in bytes.
uint64_t LargestInformation(const Request *request)
{
    switch (request->spec.major)
    {
    case IRP_MJ_READ:
    case IRP_MJ_DEVICE_CONTROL:
        return request->spec.out_length;
    case IRP_MJ_WRITE:
        return request->spec.in_length;
    default:
        return UINT64_MAX;
    }
}

// A thread waits here for its own request.
struct Waiter
{
    Machine *machine;
    IoResult result;
    std::atomic<bool> done{false};
};

// The waiter may be gone as soon as `done` is set.
void FinishWaiter(void *context, NTSTATUS status, uint64_t information)
{
    Waiter *waiter = static_cast<Waiter *>(context);
    Machine *machine = waiter->machine;

    waiter->result = {status, information};
    waiter->done.store(true, std::memory_order_release);
    machine->scheduler().Wake();
}

// The rights that the I/O manager asks of the handle (WDK page "Defining I/O Control Codes").
ACCESS_MASK AccessNeeded(const RequestSpec &spec)
{
    switch (spec.major)
    {
    case IRP_MJ_READ:
        return FILE_READ_DATA;
    case IRP_MJ_WRITE:
        return FILE_WRITE_DATA;
    case IRP_MJ_DEVICE_CONTROL:
        return (spec.control_code >> 14) & (FILE_READ_DATA | FILE_WRITE_DATA);
    default:
        return 0;
    }
}

} // namespace

void IoState::Submit(File *file, const RequestSpec &spec)
{
    Machine::Scope scope(machine_);

    RequireIrql(PASSIVE_LEVEL, "an I/O request of user mode");

    Request *request = requests_.Allocate();

    NTSTATUS status = Prepare(request, file, spec) ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;

    if (NT_SUCCESS(status) && (file->access & AccessNeeded(spec)) != AccessNeeded(spec))
    {
        status = STATUS_ACCESS_DENIED;
    }
    if (!NT_SUCCESS(status))
    {
        Finish(request, status, 0);
        requests_.Release(request);
        return;
    }

    status = CallDispatch(request);
    CheckDispatched(request, status);
    if (status != STATUS_PENDING)
    {
        Finish(request, request->IoStatus.Status, request->IoStatus.Information);
    }
    requests_.Release(request);
}

// A frame of its own: what lies above it on the stack does not belong to the driver.
__attribute__((noinline)) NTSTATUS IoState::CallDispatch(Request *request)
{
    PDEVICE_OBJECT device = request->stack.DeviceObject;
    DriverCall call(MajorFunctionName(request->spec.major));

    return device->DriverObject->MajorFunction[request->spec.major](device, request);
}

IoResult IoState::SubmitAndWait(File *file, RequestSpec spec)
{
    Waiter waiter;
    const auto done = [&waiter] { return waiter.done.load(std::memory_order_acquire); };
    const ThreadControl *thread = thread_state.control;

    waiter.machine = &machine_;
    spec.completion = FinishWaiter;
    spec.context = &waiter;
    Submit(file, spec);
    if (!done())
    {
        machine_.scheduler().WaitUntil([&done, thread]
                                       { return done() || (thread != nullptr && thread->terminated()); });
    }
    if (!done())
    {
        CancelWhere(file, [&waiter](const Request &request) { return request.spec.context == &waiter; });
        machine_.scheduler().WaitUntil(done);
    }
    return waiter.result;
}

bool IoState::Prepare(Request *request, File *file, const RequestSpec &spec)
{
    request->Type = kIrpType;
    request->Size = sizeof(IRP);
    request->StackCount = 1;
    request->CurrentLocation = 1;
    request->RequestorMode = UserMode;
    request->Tail.Overlay.CurrentStackLocation = &request->stack;
    request->Tail.Overlay.OriginalFileObject = file;
    request->stack.MajorFunction = spec.major;
    request->stack.DeviceObject = file->DeviceObject;
    request->stack.FileObject = file;
    request->spec = spec;
    request->file = file;
    request->listed = IsListed(spec.major);
    if (request->listed)
    {
        List(request);
    }
    if (spec.major == IRP_MJ_CREATE)
    {
        request->security = {nullptr, nullptr, file->access, 0};
        request->stack.Parameters.Create.SecurityContext = &request->security;
    }
    if (IsTransfer(spec.major))
    {
        return PrepareTransfer(request);
    }
    return spec.major != IRP_MJ_DEVICE_CONTROL || PrepareControl(request);
}

void IoState::List(Request *request)
{
    std::lock_guard<std::mutex> lock(request->file->mutex);

    InsertTailList(&request->file->requests, &request->ThreadListEntry);
    request->file->outstanding++;
    request->issuer = thread_state.control;
    if (request->issuer != nullptr)
    {
        request->issuer->outstanding++;
    }
}

bool IoState::PrepareTransfer(Request *request)
{
    const RequestSpec &spec = request->spec;
    bool is_read = spec.major == IRP_MJ_READ;
    void *buffer = is_read ? spec.out : const_cast<void *>(spec.in);
    uint32_t length = is_read ? spec.out_length : spec.in_length;

    (is_read ? request->stack.Parameters.Read.Length : request->stack.Parameters.Write.Length) = length;
    if ((request->stack.DeviceObject->Flags & DO_DIRECT_IO) != 0)
    {
        DescribeByMdl(request, buffer, length, is_read);
    }
    else if ((request->stack.DeviceObject->Flags & DO_BUFFERED_IO) != 0)
    {
        return MakeSystemBuffer(request, length);
    }
    else
    {
        request->UserBuffer = buffer;
    }
    return true;
}

bool IoState::PrepareControl(Request *request)
{
    const RequestSpec &spec = request->spec;
    ULONG method = METHOD_FROM_CTL_CODE(spec.control_code);

    request->stack.Parameters.DeviceIoControl.IoControlCode = spec.control_code;
    request->stack.Parameters.DeviceIoControl.InputBufferLength = spec.in_length;
    request->stack.Parameters.DeviceIoControl.OutputBufferLength = spec.out_length;
    request->UserBuffer = spec.out;
    switch (method)
    {
    case METHOD_BUFFERED:
        return MakeSystemBuffer(request, std::max(spec.in_length, spec.out_length));
    case METHOD_NEITHER:
        request->stack.Parameters.DeviceIoControl.Type3InputBuffer = const_cast<void *>(spec.in);
        return true;
    default:
        DescribeByMdl(request, spec.out, spec.out_length, method == METHOD_OUT_DIRECT);
        return MakeSystemBuffer(request, spec.in_length);
    }
}

// Allocates the buffer between user mode and the driver, and copies the caller's input into it.
bool IoState::MakeSystemBuffer(Request *request, uint32_t length)
{
    if (length == 0)
    {
        return true;
    }
    request->AssociatedIrp.SystemBuffer = machine_.pool().Allocate(length, kSystemBufferTag);
    if (request->AssociatedIrp.SystemBuffer == nullptr)
    {
        return false;
    }
    request->Flags |= IRP_BUFFERED_IO | IRP_DEALLOCATE_BUFFER;
    if (request->spec.in_length != 0)
    {
        if (request->spec.in_length != 0)
        {
            std::memcpy(request->AssociatedIrp.SystemBuffer, request->spec.in, request->spec.in_length);
        }
    }
    return true;
}

void IoState::DescribeByMdl(Request *request, void *buffer, uint32_t length, bool device_writes)
{
    if (length == 0)
    {
        return;
    }
    MmInitializeMdl(&request->mdl, buffer, length);
    request->mdl.MdlFlags =
        static_cast<CSHORT>(MDL_ALLOCATED_FIXED_SIZE | MDL_PAGES_LOCKED | (device_writes ? MDL_WRITE_OPERATION : 0));
    request->MdlAddress = &request->mdl;
}

void IoState::CheckDispatched(Request *request, NTSTATUS status)
{
    bool marked = (request->stack.Control & SL_PENDING_RETURNED) != 0;

    if (status == STATUS_PENDING && !marked)
    {
        Bugcheck("IRP_PENDING_NOT_MARKED", "%s returned STATUS_PENDING without IoMarkIrpPending", NameOf(request));
    }
    if (status != STATUS_PENDING && marked)
    {
        Bugcheck("IRP_MARKED_NOT_PENDING", "%s called IoMarkIrpPending and returned 0x%08X", NameOf(request),
                 static_cast<unsigned>(status));
    }
    if (status == STATUS_PENDING)
    {
        return;
    }
    if (request->state.load(std::memory_order_acquire) == Request::State::kActive)
    {
        Bugcheck("IRP_NOT_COMPLETED", "%s returned 0x%08X and did not complete the request", NameOf(request),
                 static_cast<unsigned>(status));
    }
    if (request->IoStatus.Status != status)
    {
        Bugcheck("IRP_STATUS_MISMATCH", "%s returned 0x%08X and completed the request with 0x%08X", NameOf(request),
                 static_cast<unsigned>(status), static_cast<unsigned>(request->IoStatus.Status));
    }
}

void IoState::Complete(Request *request)
{
    Request::State active = Request::State::kActive;

    if (!request->state.compare_exchange_strong(active, Request::State::kCompleted))
    {
        Bugcheck("IRP_COMPLETED_TWICE", "IoCompleteRequest was called for %s request %p, which is complete",
                 NameOf(request), static_cast<void *>(request));
    }
    CheckCompletion(request);
    request->PendingReturned = (request->stack.Control & SL_PENDING_RETURNED) != 0;
    if (request->PendingReturned)
    {
        Finish(request, request->IoStatus.Status, request->IoStatus.Information);
    }
}

void IoState::CheckCompletion(Request *request)
{
    if (__atomic_load_n(&request->CancelRoutine, __ATOMIC_ACQUIRE) != nullptr)
    {
        Bugcheck("IRP_COMPLETED_CANCELABLE", "%s request %p is completed with a cancel routine set", NameOf(request),
                 static_cast<void *>(request));
    }
    if (request->IoStatus.Status == STATUS_PENDING)
    {
        Bugcheck("IRP_COMPLETED_PENDING", "%s request %p is completed with STATUS_PENDING", NameOf(request),
                 static_cast<void *>(request));
    }
    if (!NT_ERROR(request->IoStatus.Status) && request->IoStatus.Information > LargestInformation(request))
    {
        Bugcheck("IRP_INFORMATION_TOO_LARGE", "%s request %p of %llu bytes is completed with information %llu",
                 NameOf(request), static_cast<void *>(request),
                 static_cast<unsigned long long>(LargestInformation(request)), request->IoStatus.Information);
    }
}

void IoState::Finish(Request *request, NTSTATUS status, uint64_t information)
{
    ReturnData(request, status, information);
    if (request->spec.completion != nullptr)
    {
        request->spec.completion(request->spec.context, status, information);
    }
    if (request->listed)
    {
        Unlist(request);
    }
    requests_.Release(request);
}

void IoState::ReturnData(Request *request, NTSTATUS status, uint64_t information)
{
    void *buffer = request->AssociatedIrp.SystemBuffer;
    bool is_output = request->MdlAddress == nullptr && request->spec.out_length != 0;

    if (buffer == nullptr)
    {
        return;
    }
    if (is_output && !NT_ERROR(status))
    {
        std::memcpy(request->spec.out, buffer, information);
    }
    machine_.pool().Free(buffer, kSystemBufferTag);
}

void IoState::Unlist(Request *request)
{
    bool wake;

    {
        std::lock_guard<std::mutex> lock(request->file->mutex);

        RemoveEntryList(&request->ThreadListEntry);
        wake = --request->file->outstanding == 0 && request->file->waited_for;
        if (request->issuer != nullptr)
        {
            request->issuer->outstanding--;
            wake = true;
        }
    }
    if (wake)
    {
        machine_.scheduler().Wake();
    }
}

// The caller keeps the request from being reused during the call.
bool IoState::Cancel(Request *request)
{
    DriverCall call("a cancel routine");
    KIRQL irql = KeAcquireSpinLockRaiseToDpc(&cancel_lock_);

    __atomic_store_n(&request->Cancel, TRUE, __ATOMIC_SEQ_CST);

    PDRIVER_CANCEL routine = IoSetCancelRoutine(request, nullptr);

    if (routine == nullptr)
    {
        KeReleaseSpinLock(&cancel_lock_, irql);
        return false;
    }
    request->CancelIrql = irql;
    routine(request->stack.DeviceObject, request);
    return true;
}

// Returns whether any was chosen.
bool IoState::CancelWhere(File *file, const std::function<bool(const Request &)> &chosen)
{
    Machine::Scope scope(machine_);
    std::vector<Request *> requests;

    {
        std::lock_guard<std::mutex> lock(file->mutex);

        for (PLIST_ENTRY entry = file->requests.Flink; entry != &file->requests; entry = entry->Flink)
        {
            Request *request = static_cast<Request *>(CONTAINING_RECORD(entry, IRP, ThreadListEntry));

            if (chosen(*request))
            {
                request->references.fetch_add(1, std::memory_order_relaxed);
                requests.push_back(request);
            }
        }
    }
    for (Request *request : requests)
    {
        Cancel(request);
        requests_.Release(request);
    }
    return !requests.empty();
}

} // namespace sim::nt

using namespace sim;
using namespace sim::nt;

extern "C" VOID IoCompleteRequest(PIRP Irp, CCHAR)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "IoCompleteRequest");
    RequireNoLocksHeld("IoCompleteRequest");
    IoState::Current().Complete(static_cast<Request *>(Irp));
}

extern "C" BOOLEAN IoCancelIrp(PIRP Irp)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "IoCancelIrp");
    return IoState::Current().Cancel(static_cast<Request *>(Irp));
}

extern "C" VOID IoAcquireCancelSpinLock(PKIRQL Irql)
{
    *Irql = KeAcquireSpinLockRaiseToDpc(IoState::Current().cancel_lock());
}

extern "C" VOID IoReleaseCancelSpinLock(KIRQL Irql)
{
    KeReleaseSpinLock(IoState::Current().cancel_lock(), Irql);
}
