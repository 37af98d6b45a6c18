// The names of a machine's devices, and the symbolic links to them. The case of letters does not matter.
// This class is not thread-safe.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace sim::nt
{

struct Device;

class ObjectDirectory
{
  public:
    struct Resolved
    {
        Device *device = nullptr;
        std::u16string rest; // the text after the device's name, with its backslash
    };

    // Returns false if the name is taken.
    bool AddDevice(const std::u16string &name, Device *device);
    void RemoveDevice(const std::u16string &name);

    bool AddLink(const std::u16string &name, const std::u16string &target);
    bool RemoveLink(const std::u16string &name); // false: no such link

    // Follows links. The device is null if nothing has that name.
    Resolved Resolve(const std::u16string &name) const;

    std::vector<std::u16string> DeviceNames() const;
    std::vector<std::u16string> LinkNames() const;

  private:
    struct Link
    {
        std::u16string name;
        std::u16string target;
    };

    std::map<std::u16string, Device *> devices_; // by canonical name
    std::map<std::u16string, Link> links_;
};

} // namespace sim::nt
