// The names of a machine's devices, and the symbolic links to them. Both cases of letters are the same. Not
// thread-safe.
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
        std::u16string rest; // what follows the device's name, with its backslash
    };

    // False: the name is taken.
    bool AddDevice(const std::u16string &name, Device *device);
    void RemoveDevice(const std::u16string &name);

    bool AddLink(const std::u16string &name, const std::u16string &target);
    bool RemoveLink(const std::u16string &name); // false: there is none

    // Follows links. device is null when nothing has that name.
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
