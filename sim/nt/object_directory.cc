#include "nt/object_directory.h"

#include <ntddk.h>

#include "nt/io_objects.h"

namespace sim::nt
{

namespace
{

constexpr int kLongestLinkChain = 8;
constexpr char16_t kGlobalDirectory[] = u"\\??\\";

// The prefixes of user mode, and the older names of the directory of links, in upper case.
constexpr const char16_t *kAliases[] = {u"\\\\.\\", u"\\\\?\\", u"\\DOSDEVICES\\GLOBAL\\", u"\\DOSDEVICES\\",
                                        u"\\GLOBAL??\\"};

bool StartsWith(const std::u16string &text, const std::u16string &prefix)
{
    return text.compare(0, prefix.size(), prefix) == 0;
}

// Puts the name into the one directory of links; the case of letters stays.
std::u16string WithDirectory(const std::u16string &name, const std::u16string &upper)
{
    for (const char16_t *alias : kAliases)
    {
        if (StartsWith(upper, alias))
        {
            return kGlobalDirectory + name.substr(std::u16string(alias).size());
        }
    }
    return name;
}

std::u16string ToUpper(std::u16string name)
{
    for (char16_t &character : name)
    {
        character = static_cast<char16_t>(RtlUpcaseUnicodeChar(static_cast<WCHAR>(character)));
    }
    return name;
}

std::u16string Canonical(const std::u16string &name)
{
    return ToUpper(WithDirectory(name, ToUpper(name)));
}

// Returns the end of the first two components of `name`: it splits "\Device\Name" from "\rest".
size_t EndOfObjectName(const std::u16string &name)
{
    size_t second = name.find(u'\\', 1);
    size_t third = second == std::u16string::npos ? second : name.find(u'\\', second + 1);

    return third == std::u16string::npos ? name.size() : third;
}

} // namespace

bool ObjectDirectory::AddDevice(const std::u16string &name, Device *device)
{
    return devices_.emplace(Canonical(name), device).second;
}

void ObjectDirectory::RemoveDevice(const std::u16string &name)
{
    devices_.erase(Canonical(name));
}

bool ObjectDirectory::AddLink(const std::u16string &name, const std::u16string &target)
{
    return links_.emplace(Canonical(name), Link{name, target}).second;
}

bool ObjectDirectory::RemoveLink(const std::u16string &name)
{
    return links_.erase(Canonical(name)) != 0;
}

ObjectDirectory::Resolved ObjectDirectory::Resolve(const std::u16string &name) const
{
    std::u16string full = WithDirectory(name, ToUpper(name));

    for (int i = 0; i < kLongestLinkChain; i++)
    {
        size_t end = EndOfObjectName(full);
        std::u16string object = Canonical(full.substr(0, end));
        auto device = devices_.find(object);

        if (device != devices_.end())
        {
            return {device->second, full.substr(end)};
        }

        auto link = links_.find(object);

        if (link == links_.end())
        {
            break;
        }
        full = link->second.target + full.substr(end);
        full = WithDirectory(full, ToUpper(full));
    }
    return {};
}

std::vector<std::u16string> ObjectDirectory::DeviceNames() const
{
    std::vector<std::u16string> names;

    for (const auto &[canonical, device] : devices_)
    {
        names.push_back(device->name);
    }
    return names;
}

std::vector<std::u16string> ObjectDirectory::LinkNames() const
{
    std::vector<std::u16string> names;

    for (const auto &[canonical, link] : links_)
    {
        names.push_back(link.name);
    }
    return names;
}

} // namespace sim::nt
