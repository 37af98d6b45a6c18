#include "nt/error_log.h"

#include <cstring>
#include <utility>

#include "machine.h"
#include "nt/bugcheck.h"
#include "nt/io_objects.h"
#include "nt/irql.h"
#include "nt/pool.h"

namespace sim::nt
{

namespace
{

constexpr ULONG kEntryTag = 'lrEI';
constexpr CSHORT kDeviceType = 3;
constexpr size_t kDumpOffset = FIELD_OFFSET(IO_ERROR_LOG_PACKET, DumpData);

const Driver &DriverOf(void *object)
{
    auto *device = static_cast<DEVICE_OBJECT *>(object);

    return *static_cast<Driver *>(device->Type == kDeviceType ? device->DriverObject
                                                              : static_cast<DRIVER_OBJECT *>(object));
}

std::u16string NameOf(void *object)
{
    auto *device = static_cast<DEVICE_OBJECT *>(object);

    return device->Type == kDeviceType ? static_cast<Device *>(device)->name : DriverOf(object).object_name;
}

// Reads the zero-terminated strings behind the packet.
std::vector<std::u16string> ReadStrings(const IO_ERROR_LOG_PACKET &packet, size_t bytes)
{
    const auto *raw = reinterpret_cast<const uint8_t *>(&packet);
    std::vector<std::u16string> strings;
    size_t at = packet.StringOffset;

    for (USHORT i = 0; i < packet.NumberOfStrings; i++)
    {
        std::u16string text;

        for (;;)
        {
            char16_t character;

            if (at % sizeof(character) != 0 || at < kDumpOffset + packet.DumpDataSize || at + sizeof(character) > bytes)
            {
                Bugcheck("ERROR_LOG_STRING",
                         "string %u of the entry with code 0x%08x does not end within its %zu bytes", i,
                         static_cast<unsigned>(packet.ErrorCode), bytes);
            }
            std::memcpy(&character, raw + at, sizeof(character));
            at += sizeof(character);
            if (character == 0)
            {
                break;
            }
            text += character;
        }
        strings.push_back(text);
    }
    return strings;
}

std::vector<uint32_t> ReadDump(const IO_ERROR_LOG_PACKET &packet, size_t bytes)
{
    std::vector<uint32_t> dump(packet.DumpDataSize / sizeof(uint32_t));

    if (packet.DumpDataSize % sizeof(uint32_t) != 0 || kDumpOffset + packet.DumpDataSize > bytes)
    {
        Bugcheck("ERROR_LOG_DUMP", "the entry with code 0x%08x has %u bytes of dump data",
                 static_cast<unsigned>(packet.ErrorCode), packet.DumpDataSize);
    }
    if (!dump.empty())
    {
        std::memcpy(dump.data(), packet.DumpData, packet.DumpDataSize);
    }
    return dump;
}

} // namespace

void *ErrorLog::Allocate(void *object, size_t bytes)
{
    if (bytes < sizeof(IO_ERROR_LOG_PACKET) || bytes > ERROR_LOG_MAXIMUM_SIZE)
    {
        Bugcheck("ERROR_LOG_SIZE", "an entry of %zu bytes was requested; from %zu to %d are possible", bytes,
                 sizeof(IO_ERROR_LOG_PACKET), ERROR_LOG_MAXIMUM_SIZE);
    }

    void *entry = machine_.pool().Allocate(bytes, kEntryTag, true);

    if (entry != nullptr)
    {
        const std::lock_guard<std::mutex> lock(mutex_);

        entries_[entry] = {DriverOf(object).service_name, NameOf(object), bytes};
    }
    return entry;
}

ErrorLog::Entry ErrorLog::Remove(void *entry, const char *function)
{
    const std::lock_guard<std::mutex> lock(mutex_);
    auto found = entries_.find(entry);

    if (found == entries_.end())
    {
        Bugcheck("ERROR_LOG_ENTRY", "%s was called for %p, which is no entry", function, entry);
    }

    Entry removed = std::move(found->second);

    entries_.erase(found);
    return removed;
}

void ErrorLog::Write(void *entry)
{
    const Entry removed = Remove(entry, "IoWriteErrorLogEntry");
    const auto &packet = *static_cast<const IO_ERROR_LOG_PACKET *>(entry);
    ErrorLogRecord record;

    record.source = removed.source;
    record.code = packet.ErrorCode;
    record.final_status = packet.FinalStatus;
    record.insertions = ReadStrings(packet, removed.bytes);
    record.insertions.insert(record.insertions.begin(), removed.object_name);
    record.dump = ReadDump(packet, removed.bytes);
    machine_.pool().Free(entry, kEntryTag);

    const std::lock_guard<std::mutex> lock(mutex_);

    records_.push_back(std::move(record));
}

void ErrorLog::Free(void *entry)
{
    Remove(entry, "IoFreeErrorLogEntry");
    machine_.pool().Free(entry, kEntryTag);
}

std::vector<ErrorLogRecord> ErrorLog::Take()
{
    const std::lock_guard<std::mutex> lock(mutex_);

    return std::exchange(records_, {});
}

std::string ErrorLog::Left() const
{
    const std::lock_guard<std::mutex> lock(mutex_);

    return entries_.empty() ? std::string() : "    " + std::to_string(entries_.size()) + " entries\n";
}

} // namespace sim::nt

using namespace sim;
using namespace sim::nt;

extern "C" PVOID IoAllocateErrorLogEntry(PVOID IoObject, UCHAR EntrySize)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "IoAllocateErrorLogEntry");
    return Machine::Current().error_log().Allocate(IoObject, EntrySize);
}

extern "C" VOID IoWriteErrorLogEntry(PVOID ElEntry)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "IoWriteErrorLogEntry");
    Machine::Current().error_log().Write(ElEntry);
}

extern "C" VOID IoFreeErrorLogEntry(PVOID ElEntry)
{
    RequireIrqlAtMost(DISPATCH_LEVEL, "IoFreeErrorLogEntry");
    Machine::Current().error_log().Free(ElEntry);
}
