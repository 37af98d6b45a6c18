#include "net/reassembly.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace sim::net
{

Reassembly::Whole Reassembly::Add(const Packet &fragment)
{
    const IpPacketInfo &info = fragment.info();
    const uint8_t *const data = fragment.bytes() + info.fragment_start;
    const size_t start = info.fragment_offset;
    const size_t end = start + (std::min(info.length, fragment.length()) - info.fragment_start);
    const Key key = KeyOf(info);
    const std::lock_guard<std::mutex> lock(mutex_);
    Datagram &datagram = DatagramOf(key);
    const auto same = datagram.pieces.find(static_cast<uint32_t>(start));

    if (same != datagram.pieces.end() && start + same->second.size() == end)
    {
        return {}; // a duplicate
    }
    if (end == start || end > kLongestPacket || Overlaps(datagram, start, end) ||
        (datagram.length != 0 && (end > datagram.length || !info.more_fragments)))
    {
        datagrams_.erase(key);
        return {};
    }
    datagram.pieces.emplace(static_cast<uint32_t>(start), std::vector<uint8_t>(data, data + (end - start)));
    datagram.fragments.emplace_back(fragment.bytes(), fragment.bytes() + fragment.length());
    datagram.received += end - start;
    if (info.first_fragment)
    {
        datagram.first.assign(fragment.bytes(), data);
    }
    if (!info.more_fragments)
    {
        datagram.length = end;
    }
    if (datagram.length == 0 || datagram.received != datagram.length)
    {
        return {};
    }

    Whole whole = {Join(datagram), std::move(datagram.fragments)};

    datagrams_.erase(key);
    return whole;
}

Reassembly::Key Reassembly::KeyOf(const IpPacketInfo &info)
{
    return {info.family, info.family == kIpv6 ? uint8_t{0} : info.protocol, info.fragment_identification, info.source,
            info.destination};
}

Reassembly::Datagram &Reassembly::DatagramOf(const Key &key)
{
    const auto found = datagrams_.find(key);

    if (found != datagrams_.end())
    {
        return found->second;
    }
    if (datagrams_.size() == kMostDatagrams)
    {
        datagrams_.erase(std::min_element(datagrams_.begin(), datagrams_.end(), [](const auto &one, const auto &other)
                                          { return one.second.number < other.second.number; }));
    }

    Datagram &made = datagrams_[key];

    made.number = ++last_number_;
    return made;
}

bool Reassembly::Overlaps(const Datagram &datagram, size_t start, size_t end)
{
    const auto next = datagram.pieces.lower_bound(static_cast<uint32_t>(start));

    if (next != datagram.pieces.end() && next->first < end)
    {
        return true;
    }
    return next != datagram.pieces.begin() && std::prev(next)->first + std::prev(next)->second.size() > start;
}

std::vector<uint8_t> Reassembly::Join(const Datagram &datagram)
{
    std::vector<uint8_t> whole = datagram.first;

    for (const auto &piece : datagram.pieces)
    {
        whole.insert(whole.end(), piece.second.begin(), piece.second.end());
    }
    return whole;
}

} // namespace sim::net
