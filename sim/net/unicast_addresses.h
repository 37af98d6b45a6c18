// The table of the machine's unicast IPv4 addresses, and who is notified of its changes (netio.sys).
//
// Concurrency: every function may be called from any thread.
// No lock is held while a driver's function runs.
#pragma once

#include <ntddk.h>

#include <netioapi.h>

#include <array>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <vector>

namespace sim::net
{

struct UnicastAddress
{
    std::array<uint8_t, 4> address; // network order
    uint8_t prefix_length;
};

class UnicastAddresses
{
  public:
    UnicastAddresses(); // has an address in each subnet of IsBroadcast, and that of loopback

    // Replaces all addresses, and notifies.
    void Set(std::vector<UnicastAddress> addresses);

    MIB_UNICASTIPADDRESS_TABLE *CopyTable();
    void FreeTable(void *table);

    void *Register(PUNICAST_IPADDRESS_CHANGE_CALLBACK function, void *context);
    // Waits until no call of the registered function is running.
    void Unregister(void *registration);

    // Describes the registrations and tables that drivers did not give back; empty when there are none.
    std::string Left() const;

  private:
    struct Registration
    {
        PUNICAST_IPADDRESS_CHANGE_CALLBACK function;
        void *context;
        uint32_t running = 0;
    };

    void Notify();

    mutable std::mutex mutex_; // guards the members below
    std::condition_variable idle_;
    std::vector<UnicastAddress> addresses_;
    std::list<Registration> registrations_;
    std::list<std::vector<uint64_t>> tables_;
};

} // namespace sim::net
