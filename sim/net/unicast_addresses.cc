#include "net/unicast_addresses.h"

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/driver_call.h"
#include "nt/fault_injection.h"
#include "nt/irql.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace sim::net
{
namespace
{

constexpr NET_IFINDEX kFirstInterface = 12;
constexpr size_t kRowOffset = FIELD_OFFSET(MIB_UNICASTIPADDRESS_TABLE, Table);

} // namespace

UnicastAddresses::UnicastAddresses()
    : addresses_{{{127, 0, 0, 1}, 8}, {{192, 0, 2, 10}, 24}, {{192, 168, 1, 10}, 24}, {{10, 0, 0, 10}, 24}}
{
}

void UnicastAddresses::Set(std::vector<UnicastAddress> addresses)
{
    {
        const std::lock_guard<std::mutex> lock(mutex_);

        addresses_ = std::move(addresses);
    }
    Notify();
}

void UnicastAddresses::Notify()
{
    std::unique_lock<std::mutex> lock(mutex_);

    for (auto next = registrations_.begin(); next != registrations_.end();)
    {
        Registration &registration = *next;

        registration.running++;
        lock.unlock();
        {
            nt::DriverCall call("a notification of changed addresses");

            registration.function(registration.context, nullptr, MibParameterNotification);
        }
        lock.lock();
        // The iterator moves on before its registration may be removed.
        ++next;
        registration.running--;
        idle_.notify_all();
    }
}

MIB_UNICASTIPADDRESS_TABLE *UnicastAddresses::CopyTable()
{
    const std::lock_guard<std::mutex> lock(mutex_);
    const size_t bytes = kRowOffset + addresses_.size() * sizeof(MIB_UNICASTIPADDRESS_ROW);

    tables_.emplace_back(bytes / sizeof(uint64_t) + 1);

    auto *table = reinterpret_cast<MIB_UNICASTIPADDRESS_TABLE *>(tables_.back().data());

    table->NumEntries = static_cast<ULONG>(addresses_.size());
    for (size_t i = 0; i < addresses_.size(); ++i)
    {
        MIB_UNICASTIPADDRESS_ROW &row = table->Table[i];

        row.Address.Ipv4.sin_family = AF_INET;
        std::memcpy(&row.Address.Ipv4.sin_addr, addresses_[i].address.data(), addresses_[i].address.size());
        row.InterfaceIndex = kFirstInterface;
        row.OnLinkPrefixLength = addresses_[i].prefix_length;
        row.DadState = IpDadStatePreferred;
    }
    return table;
}

void UnicastAddresses::FreeTable(void *table)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = std::find_if(tables_.begin(), tables_.end(),
                                    [table](const std::vector<uint64_t> &each) { return each.data() == table; });

    if (found == tables_.end())
    {
        Bugcheck("NOT_A_MIB_TABLE", "FreeMibTable was called for %p, which is no table", table);
    }
    tables_.erase(found);
}

void *UnicastAddresses::Register(PUNICAST_IPADDRESS_CHANGE_CALLBACK function, void *context)
{
    const std::lock_guard<std::mutex> lock(mutex_);

    registrations_.push_back({function, context});
    return &registrations_.back();
}

void UnicastAddresses::Unregister(void *registration)
{
    std::unique_lock<std::mutex> lock(mutex_);
    const auto found = std::find_if(registrations_.begin(), registrations_.end(),
                                    [registration](const Registration &each) { return &each == registration; });

    if (found == registrations_.end())
    {
        Bugcheck("NOT_A_NOTIFICATION", "CancelMibChangeNotify2 was called for %p, which is no notification",
                 registration);
    }
    idle_.wait(lock, [found] { return found->running == 0; });
    registrations_.erase(found);
}

std::string UnicastAddresses::Left() const
{
    const std::lock_guard<std::mutex> lock(mutex_);

    if (registrations_.empty() && tables_.empty())
    {
        return {};
    }
    return "    " + std::to_string(registrations_.size()) + " notifications, " + std::to_string(tables_.size()) +
           " tables\n";
}

} // namespace sim::net

using namespace sim;

extern "C" NTSTATUS GetUnicastIpAddressTable(ADDRESS_FAMILY Family, PMIB_UNICASTIPADDRESS_TABLE *Table)
{
    nt::RequireIrqlAtMost(PASSIVE_LEVEL, "GetUnicastIpAddressTable");
    *Table = nullptr;
    if (Family != AF_INET)
    {
        return STATUS_NOT_SUPPORTED;
    }
    if (Machine::Current().faults().ShouldFail())
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    *Table = Machine::Current().addresses().CopyTable();
    return STATUS_SUCCESS;
}

extern "C" VOID FreeMibTable(PVOID Memory)
{
    nt::RequireIrqlAtMost(PASSIVE_LEVEL, "FreeMibTable");
    Machine::Current().addresses().FreeTable(Memory);
}

extern "C" NTSTATUS NotifyUnicastIpAddressChange(ADDRESS_FAMILY, PUNICAST_IPADDRESS_CHANGE_CALLBACK Callback,
                                                 PVOID CallerContext, BOOLEAN, HANDLE *NotificationHandle)
{
    nt::RequireIrqlAtMost(PASSIVE_LEVEL, "NotifyUnicastIpAddressChange");
    *NotificationHandle = nullptr;
    if (Machine::Current().faults().ShouldFail())
    {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    *NotificationHandle = Machine::Current().addresses().Register(Callback, CallerContext);
    return STATUS_SUCCESS;
}

extern "C" NTSTATUS CancelMibChangeNotify2(HANDLE NotificationHandle)
{
    nt::RequireIrqlAtMost(PASSIVE_LEVEL, "CancelMibChangeNotify2");
    Machine::Current().addresses().Unregister(NotificationHandle);
    return STATUS_SUCCESS;
}
