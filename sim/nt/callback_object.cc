#include "nt/callback_object.h"

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/driver_call.h"
#include "nt/fault_injection.h"
#include "nt/irql.h"

namespace sim::nt
{

void CallbackObject::Reference()
{
    const std::lock_guard<std::mutex> lock(mutex_);

    references_++;
}

void CallbackObject::Dereference()
{
    const std::lock_guard<std::mutex> lock(mutex_);

    if (references_ == 0)
    {
        Bugcheck("OBJECT_DEREFERENCED_TWICE",
                 "ObDereferenceObject was called for a callback object without a reference");
    }
    references_--;
}

void *CallbackObject::Register(PCALLBACK_FUNCTION function, void *context)
{
    const std::lock_guard<std::mutex> lock(mutex_);

    registrations_.push_back({this, function, context});
    return &registrations_.back();
}

void CallbackObject::Unregister(void *handle)
{
    auto *registration = static_cast<Registration *>(handle);
    CallbackObject &owner = *registration->owner;
    std::unique_lock<std::mutex> lock(owner.mutex_);

    registration->ended = true;
    owner.idle_.wait(lock, [registration] { return registration->running == 0; });
    owner.registrations_.remove_if([registration](const Registration &candidate)
                                   { return &candidate == registration; });
}

void CallbackObject::Notify(uintptr_t argument1, uintptr_t argument2)
{
    std::unique_lock<std::mutex> lock(mutex_);

    for (auto next = registrations_.begin(); next != registrations_.end();)
    {
        Registration &registration = *next;

        if (registration.ended)
        {
            ++next;
            continue;
        }
        registration.running++;
        lock.unlock();
        {
            DriverCall call("a callback of a callback object");

            registration.function(registration.context, reinterpret_cast<void *>(argument1),
                                  reinterpret_cast<void *>(argument2));
        }
        lock.lock();
        // The iterator moves on before its registration may be removed.
        ++next;
        registration.running--;
        idle_.notify_all();
    }
}

std::string CallbackObject::Left() const
{
    const std::lock_guard<std::mutex> lock(mutex_);

    if (registrations_.empty() && references_ == 0)
    {
        return {};
    }
    return "    " + std::to_string(registrations_.size()) + " callbacks, " + std::to_string(references_) +
           " references\n";
}

} // namespace sim::nt

using namespace sim;
using namespace sim::nt;

extern "C" NTSTATUS ExCreateCallback(PCALLBACK_OBJECT *CallbackObject, POBJECT_ATTRIBUTES ObjectAttributes,
                                     BOOLEAN Create, BOOLEAN)
{
    static const WCHAR power_state[] = L"\\Callback\\PowerState";
    UNICODE_STRING name;

    RequireIrqlAtMost(APC_LEVEL, "ExCreateCallback");
    if (Create != FALSE)
    {
        return STATUS_NOT_SUPPORTED;
    }
    RtlInitUnicodeString(&name, power_state);
    if (!RtlEqualUnicodeString(ObjectAttributes->ObjectName, &name,
                               (ObjectAttributes->Attributes & OBJ_CASE_INSENSITIVE) != 0))
    {
        return STATUS_OBJECT_NAME_NOT_FOUND;
    }
    if (Machine::Current().faults().ShouldFail())
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    Machine::Current().power_state().Reference();
    *CallbackObject = reinterpret_cast<PCALLBACK_OBJECT>(&Machine::Current().power_state());
    return STATUS_SUCCESS;
}

extern "C" PVOID ExRegisterCallback(PCALLBACK_OBJECT Object, PCALLBACK_FUNCTION CallbackFunction, PVOID CallbackContext)
{
    RequireIrqlAtMost(APC_LEVEL, "ExRegisterCallback");
    return Machine::Current().faults().ShouldFail()
               ? nullptr
               : reinterpret_cast<CallbackObject *>(Object)->Register(CallbackFunction, CallbackContext);
}

extern "C" VOID ExUnregisterCallback(PVOID CallbackRegistration)
{
    RequireIrqlAtMost(APC_LEVEL, "ExUnregisterCallback");
    CallbackObject::Unregister(CallbackRegistration);
}
