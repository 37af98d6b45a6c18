#include "nt/io_manager.h"

#include "machine.h"
#include "nt/io_state.h"
#include "nt/thread_control.h"

namespace sim::nt
{

namespace
{

RequestSpec ReadOf(void *buffer, uint32_t length)
{
    RequestSpec spec;

    spec.major = IRP_MJ_READ;
    spec.out = buffer;
    spec.out_length = length;
    return spec;
}

RequestSpec WriteOf(const void *buffer, uint32_t length)
{
    RequestSpec spec;

    spec.major = IRP_MJ_WRITE;
    spec.in = buffer;
    spec.in_length = length;
    return spec;
}

RequestSpec ControlOf(uint32_t code, const void *in, uint32_t in_length, void *out, uint32_t out_length)
{
    RequestSpec spec;

    spec.major = IRP_MJ_DEVICE_CONTROL;
    spec.control_code = code;
    spec.in = in;
    spec.in_length = in_length;
    spec.out = out;
    spec.out_length = out_length;
    return spec;
}

RequestSpec With(RequestSpec spec, IoCompletion completion, void *context)
{
    spec.completion = completion;
    spec.context = context;
    return spec;
}

// A system call of the calling thread.
template <typename Function> void Call(Function function)
{
    EnterKernel();
    function();
    ReturnToUserMode();
}

template <typename Function> IoResult CallAndWait(Function function)
{
    IoResult result;

    Call([&] { result = function(); });
    return result;
}

} // namespace

IoState &IoState::Current()
{
    return Machine::Current().io().state();
}

IoManager::IoManager(Machine &machine) : state_(std::make_unique<IoState>(machine)) {}

IoManager::~IoManager() = default;

NTSTATUS IoManager::LoadDriver(PDRIVER_INITIALIZE entry, const std::u16string &service_name, PDRIVER_OBJECT *driver)
{
    return state_->LoadDriver(entry, service_name, driver);
}

NTSTATUS IoManager::UnloadDriver(PDRIVER_OBJECT driver)
{
    return state_->UnloadDriver(static_cast<Driver *>(driver));
}

NTSTATUS IoManager::Open(const std::u16string &name, File **file, ACCESS_MASK access)
{
    return state_->Open(name, access, file);
}

void IoManager::Read(File *file, void *buffer, uint32_t length, IoCompletion completion, void *context)
{
    Call([&] { state_->Submit(file, With(ReadOf(buffer, length), completion, context)); });
}

void IoManager::Write(File *file, const void *buffer, uint32_t length, IoCompletion completion, void *context)
{
    Call([&] { state_->Submit(file, With(WriteOf(buffer, length), completion, context)); });
}

void IoManager::DeviceControl(File *file, uint32_t code, const void *in, uint32_t in_length, void *out,
                              uint32_t out_length, IoCompletion completion, void *context)
{
    Call([&] { state_->Submit(file, With(ControlOf(code, in, in_length, out, out_length), completion, context)); });
}

IoResult IoManager::ReadAndWait(File *file, void *buffer, uint32_t length)
{
    return CallAndWait([&] { return state_->SubmitAndWait(file, ReadOf(buffer, length)); });
}

IoResult IoManager::WriteAndWait(File *file, const void *buffer, uint32_t length)
{
    return CallAndWait([&] { return state_->SubmitAndWait(file, WriteOf(buffer, length)); });
}

IoResult IoManager::DeviceControlAndWait(File *file, uint32_t code, const void *in, uint32_t in_length, void *out,
                                         uint32_t out_length)
{
    return CallAndWait([&] { return state_->SubmitAndWait(file, ControlOf(code, in, in_length, out, out_length)); });
}

void IoManager::CancelAll(File *file, const ThreadControl *issuer)
{
    state_->CancelWhere(file,
                        [issuer](const Request &request) { return issuer == nullptr || request.issuer == issuer; });
}

bool IoManager::Cancel(File *file, const void *context)
{
    return state_->CancelWhere(file, [context](const Request &request) { return request.spec.context == context; });
}

void IoManager::Close(File *file)
{
    state_->Close(file);
}

uint32_t IoManager::outstanding(File *file) const
{
    return state_->Outstanding(file);
}

std::u16string IoManager::SecurityDescriptor(const std::u16string &name) const
{
    return state_->SecurityDescriptor(name);
}

std::vector<std::u16string> IoManager::DeviceNames() const
{
    return state_->DeviceNames();
}

} // namespace sim::nt
