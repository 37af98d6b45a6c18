// The I/O manager's own data for driver, device and file objects.
#pragma once

#include <ntddk.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

namespace sim::nt
{

struct Driver : DRIVER_OBJECT
{
    std::u16string service_name;
    std::u16string object_name; // "\Driver\<service>"
    DRIVER_EXTENSION extension{};
    uint32_t handles = 0; // open handles of all its devices
    bool unload_pending = false;
};

struct Device : DEVICE_OBJECT
{
    std::u16string name; // empty: the device has no name
    std::u16string security_descriptor;
    bool exclusive = false;
    bool deleted = false;
    uint32_t handles = 0;
    uint32_t references = 0; // open handles, and work items that are queued or run
};

class File : public FILE_OBJECT
{
  public:
    std::mutex mutex;           // guards the members below
    LIST_ENTRY requests;        // outstanding, oldest first
    uint32_t outstanding = 0;   // length of `requests`
    bool waited_for = false;    // a thread waits until none is outstanding
    std::u16string name_buffer; // holds the text of FileName
    ACCESS_MASK access = 0;     // what the handle was opened for
};

inline std::u16string ToString(PCUNICODE_STRING string)
{
    return string == nullptr
               ? std::u16string()
               : std::u16string(reinterpret_cast<const char16_t *>(string->Buffer), string->Length / sizeof(WCHAR));
}

// The result points into `text`, which must outlive it.
inline UNICODE_STRING ToUnicodeString(std::u16string &text)
{
    USHORT bytes = static_cast<USHORT>(text.size() * sizeof(WCHAR));

    return {bytes, bytes, reinterpret_cast<PWCH>(text.data())};
}

// Text for messages.
inline std::string ToAscii(const std::u16string &text)
{
    std::string ascii;

    for (char16_t character : text)
    {
        ascii += character < 0x80 ? static_cast<char>(character) : '?';
    }
    return ascii;
}

} // namespace sim::nt
