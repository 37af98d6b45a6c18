// The System event log, into which drivers write by IoAllocateErrorLogEntry and IoWriteErrorLogEntry.
//
// An entry must fit into ERROR_LOG_MAXIMUM_SIZE, and its strings must be terminated within it.
// The driver writes or frees each entry once. An entry that is left when the last driver is gone is a leak.
//
// Concurrency: every function may be called from any thread.
#pragma once

#include <ntddk.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace sim
{
class Machine;
}

namespace sim::nt
{

// An entry as Event Viewer has it.
struct ErrorLogRecord
{
    std::u16string source; // the driver's service, whose message file has the text of `code`
    NTSTATUS code = 0;
    NTSTATUS final_status = 0;
    std::vector<std::u16string> insertions; // %1, which Windows inserts, and the driver's strings from %2 on
    std::vector<uint32_t> dump;
};

class ErrorLog
{
  public:
    explicit ErrorLog(Machine &machine) : machine_(machine) {}

    ErrorLog(const ErrorLog &) = delete;
    ErrorLog &operator=(const ErrorLog &) = delete;

    // `object`: a driver or a device. Returns null when there is no memory.
    void *Allocate(void *object, size_t bytes);
    void Write(void *entry);
    void Free(void *entry);

    // Returns the records that were written since the last call, oldest first.
    std::vector<ErrorLogRecord> Take();

    // Describes the entries that were neither written nor freed; empty when there are none.
    std::string Left() const;

  private:
    struct Entry
    {
        std::u16string source;
        std::u16string object_name;
        size_t bytes;
    };

    Entry Remove(void *entry, const char *function);

    Machine &machine_;
    mutable std::mutex mutex_; // guards the members below
    std::map<void *, Entry> entries_;
    std::vector<ErrorLogRecord> records_;
};

} // namespace sim::nt
