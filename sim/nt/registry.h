// The registry: keys with values, which drivers read. The case of letters does not matter.
// Drivers name a key by its full path, or by a path below a key that they have opened.
//
// Concurrency: every function may be called from any thread.
#pragma once

#include <ntddk.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace sim::nt
{

class Registry
{
  public:
    // Returns the path of a service's key.
    static std::u16string ServiceKey(const std::u16string &service);

    // Creates the key if it does not exist.
    void AddKey(const std::u16string &path);

    // Sets a value, and creates its key. `type`: REG_....
    void SetValue(const std::u16string &path, const std::u16string &name, uint32_t type, std::vector<uint8_t> data);
    void SetDword(const std::u16string &path, const std::u16string &name, uint32_t number);

    // STATUS_OBJECT_NAME_NOT_FOUND: there is no such key. `root` may be null. Bugchecks for a root that is not open.
    NTSTATUS Open(HANDLE root, const std::u16string &path, HANDLE *key);

    struct Value
    {
        uint32_t type = 0;
        std::vector<uint8_t> data;
    };
    // Returns false for a value that does not exist. Bugchecks for a key that is not open.
    bool Find(HANDLE key, const std::u16string &name, Value *value);

    // Bugchecks for a handle that is not open.
    void Close(HANDLE key);

    // Describes the keys that drivers did not close; empty when there are none.
    std::string Left() const;

  private:
    const std::u16string &PathOfLocked(HANDLE key, const char *function) const;

    mutable std::mutex mutex_;
    std::map<std::u16string, std::map<std::u16string, Value>> keys_; // by paths and names in upper case
    std::map<uintptr_t, std::u16string> open_;                       // path by handle
    uintptr_t last_handle_ = 0;
};

} // namespace sim::nt
