#include "net/socket.h"

#include "machine.h"
#include "nt/processes.h"

#include <algorithm>
#include <mutex>

namespace sim::net
{

namespace
{

// A socket of every address serves the links of its compartment.
Endpoint EveryAddress(const Endpoint &local)
{
    return {local.family, {}, local.port, local.link == kForeignLink ? kForeignLink : kEthernetLink};
}

} // namespace

Socket::Socket(SocketTable &table, uint64_t handle, const FlowSpec &owner, uint8_t protocol, const Endpoint &local,
               bool shared)
    : table_(table), shared_(shared), path_(owner.process_path)
{
    path_blob_.size = static_cast<UINT32>((path_.size() + 1) * sizeof(char16_t));
    path_blob_.data = reinterpret_cast<UINT8 *>(path_.data());
    identity_.protocol = protocol;
    identity_.loopback = owner.loopback;
    identity_.local = local;
    identity_.handle = handle;
    identity_.process_id = owner.process_id;
    Machine::Current().processes().Start(owner.process_id);
    identity_.process_path = path_.empty() ? nullptr : &path_blob_;
}

bool Socket::Bind()
{
    bound_ = !HasPorts(identity_.protocol) || IndicateAssignment(table_.engine_, identity_);
    return bound_;
}

void Socket::Release()
{
    const bool last =
        shared_ ? table_.ReleaseReference(this) : references_.fetch_sub(1, std::memory_order_acq_rel) == 1;

    if (last)
    {
        Close();
        delete this;
    }
}

void Socket::Close()
{
    if (closed_->exchange(true) || !bound_ || !HasPorts(identity_.protocol) ||
        table_.ended_.load(std::memory_order_relaxed))
    {
        return;
    }
    if (shared_)
    {
        IndicateClosure(table_.engine_, identity_);
    }
    IndicateRelease(table_.engine_, identity_);
}

SocketTable::~SocketTable()
{
    for (Bucket &bucket : buckets_)
    {
        while (bucket.first != nullptr)
        {
            Socket *socket = bucket.first;
            bucket.first = socket->next_;
            delete socket;
        }
    }
}

SocketRef SocketTable::Find(uint8_t protocol, const Endpoint &local, bool wildcard, uint64_t process_id)
{
    Bucket &bucket = BucketOf(protocol, local.port);
    const std::lock_guard<SpinLock> lock(bucket.lock);
    Socket *socket = FindLocked(bucket, protocol, local, process_id);

    if (socket == nullptr && wildcard)
    {
        socket = FindLocked(bucket, protocol, EveryAddress(local), process_id);
    }
    if (socket != nullptr)
    {
        socket->AddReference();
    }
    return SocketRef(socket);
}

SocketRef SocketTable::FindMember(uint8_t protocol, const Endpoint &group)
{
    Bucket &bucket = BucketOf(protocol, group.port);
    const std::lock_guard<SpinLock> lock(bucket.lock);
    const auto is_member = [&](const Socket &socket)
    {
        const Endpoint &local = socket.identity().local;
        const std::vector<Address> &groups = socket.groups_;

        return socket.identity().protocol == protocol && local.family == group.family && local.port == group.port &&
               (local.address == group.address ||
                std::find(groups.begin(), groups.end(), group.address) != groups.end());
    };

    for (Socket *socket = bucket.first; socket != nullptr; socket = socket->next_)
    {
        if (is_member(*socket))
        {
            socket->AddReference();
            return SocketRef(socket);
        }
    }
    return SocketRef();
}

void SocketTable::Join(Socket *socket, const Address &group)
{
    Bucket &bucket = BucketOf(socket->identity().protocol, socket->identity().local.port);
    const std::lock_guard<SpinLock> lock(bucket.lock);
    const std::lock_guard<SpinLock> groups_lock(groups_lock_);

    socket->groups_.push_back(group);
    joined_.push_back(group);
}

bool SocketTable::IsJoined(const Address &group) const
{
    const std::lock_guard<SpinLock> lock(groups_lock_);

    return std::find(joined_.begin(), joined_.end(), group) != joined_.end();
}

void SocketTable::LeaveGroups(Socket *socket)
{
    const std::lock_guard<SpinLock> lock(groups_lock_);

    for (const Address &group : socket->groups_)
    {
        joined_.erase(std::find(joined_.begin(), joined_.end(), group));
    }
    socket->groups_.clear();
}

bool SocketTable::Insert(Socket *socket)
{
    Bucket &bucket = BucketOf(socket->identity().protocol, socket->identity().local.port);
    const std::lock_guard<SpinLock> lock(bucket.lock);

    const Socket *found =
        FindLocked(bucket, socket->identity().protocol, socket->identity().local, socket->identity().process_id);

    if (found != nullptr && found->identity().process_id == socket->identity().process_id)
    {
        return false;
    }
    socket->next_ = bucket.first;
    bucket.first = socket;
    return true;
}

void SocketTable::Remove(Socket *socket)
{
    Bucket &bucket = BucketOf(socket->identity().protocol, socket->identity().local.port);
    const std::lock_guard<SpinLock> lock(bucket.lock);

    RemoveLocked(&bucket, socket);
}

SocketTable::Bucket &SocketTable::BucketOf(uint8_t protocol, uint16_t port)
{
    return buckets_[(port ^ (protocol == kProtocolUdp ? 0x800u : 0u)) % kBuckets];
}

Socket *SocketTable::FindLocked(const Bucket &bucket, uint8_t protocol, const Endpoint &local, uint64_t process_id)
{
    Socket *found = nullptr;

    for (Socket *socket = bucket.first; socket != nullptr; socket = socket->next_)
    {
        if (socket->identity().protocol != protocol || !SameEndpoint(socket->identity().local, local))
        {
            continue;
        }
        if (socket->identity().process_id == process_id)
        {
            return socket;
        }
        found = found == nullptr ? socket : found;
    }
    return found;
}

void SocketTable::RemoveLocked(Bucket *bucket, Socket *socket)
{
    for (Socket **link = &bucket->first; *link != nullptr; link = &(*link)->next_)
    {
        if (*link == socket)
        {
            *link = socket->next_;
            LeaveGroups(socket);
            break;
        }
    }
}

bool SocketTable::ReleaseReference(Socket *socket)
{
    Bucket &bucket = BucketOf(socket->identity().protocol, socket->identity().local.port);
    const std::lock_guard<SpinLock> lock(bucket.lock);

    if (socket->references_.fetch_sub(1, std::memory_order_acq_rel) != 1)
    {
        return false;
    }
    RemoveLocked(&bucket, socket);
    return true;
}

} // namespace sim::net
