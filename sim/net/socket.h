// A local endpoint that a process has bound. It is assigned once, and released once.
//
// Concurrency: the endpoint's description does not change after Bind. Any thread may use the table.
// Layers are classified with no lock held.
#pragma once

#include "net/address.h"
#include "net/indication.h"
#include "net/spin_lock.h"

#include <ntddk.h>

#include <ndis.h>

#include <fwpsk.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace sim::net
{

class Core;
class SocketTable;

class Socket
{
  public:
    Socket(SocketTable &table, uint64_t handle, const FlowSpec &owner, uint8_t protocol, const Endpoint &local,
           bool shared);

    Socket(const Socket &) = delete;
    Socket &operator=(const Socket &) = delete;

    const SocketIdentity &identity() const { return identity_; }

    // Becomes true when the socket closes: its endpoint handle is invalid from then on. Outlives the socket.
    std::shared_ptr<const std::atomic<bool>> closed() const { return closed_; }

    // Listeners and UDP sockets are shared: the table finds them by address, and each has its own closure.
    bool shared() const { return shared_; }

    // Indicates ALE_RESOURCE_ASSIGNMENT if the protocol has ports. Returns false if that is blocked.
    bool Bind();

    void AddReference() { references_.fetch_add(1, std::memory_order_relaxed); }

    // The last release closes it: ALE_ENDPOINT_CLOSURE if it is shared, then ALE_RESOURCE_RELEASE.
    // A TCP listener closes earlier, with the last application that listens.
    void Release();

    // Releases without indications, because the stack ends. The table deletes shared sockets that are open.
    void Abandon()
    {
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1 &&
            (!shared_ || closed_->load(std::memory_order_relaxed)))
        {
            delete this;
        }
    }

  private:
    friend class Core;
    friend class SocketTable;

    ~Socket() = default;
    void Close();

    SocketTable &table_;
    SocketIdentity identity_;
    const bool shared_;
    bool bound_ = false;
    std::u16string path_;
    FWP_BYTE_BLOB path_blob_{};
    std::atomic<uint32_t> references_{1};
    std::atomic<uint32_t> owners_{0};    // applications that use it
    std::atomic<uint32_t> listeners_{0}; // owners that only listen
    const std::shared_ptr<std::atomic<bool>> closed_ = std::make_shared<std::atomic<bool>>(false);
    std::atomic<uint32_t> accepted_{0}; // conversations that it ever accepted without an application's call
    Socket *next_ = nullptr;            // in the table
    std::vector<Address> groups_;       // the table's: the multicast groups that it joined
};

// Owns one reference.
class SocketRef
{
  public:
    SocketRef() = default;
    explicit SocketRef(Socket *socket) : socket_(socket) {} // takes the reference over
    SocketRef(SocketRef &&other) noexcept : socket_(other.socket_) { other.socket_ = nullptr; }
    SocketRef &operator=(SocketRef &&other) noexcept
    {
        if (this != &other)
        {
            Reset();
            socket_ = other.socket_;
            other.socket_ = nullptr;
        }
        return *this;
    }
    ~SocketRef() { Reset(); }

    SocketRef(const SocketRef &) = delete;
    SocketRef &operator=(const SocketRef &) = delete;

    SocketRef Share() const
    {
        if (socket_ != nullptr)
        {
            socket_->AddReference();
        }
        return SocketRef(socket_);
    }

    void Reset()
    {
        if (socket_ != nullptr)
        {
            socket_->Release();
            socket_ = nullptr;
        }
    }

    // Releases without indications, because the stack ends.
    void Forget()
    {
        if (socket_ != nullptr)
        {
            socket_->Abandon();
            socket_ = nullptr;
        }
    }

    Socket *get() const { return socket_; }
    Socket *operator->() const { return socket_; }
    explicit operator bool() const { return socket_ != nullptr; }

  private:
    Socket *socket_ = nullptr;
};

// Shared sockets by protocol, address and port.
// Processes may share an endpoint (SO_REUSEADDR). Each of them has its own socket.
class SocketTable
{
  public:
    // Sockets give no indications once `ended` is set.
    SocketTable(wfp::Engine &engine, const std::atomic<bool> &ended) : engine_(engine), ended_(ended) {}
    ~SocketTable(); // deletes the sockets that are left

    SocketTable(const SocketTable &) = delete;
    SocketTable &operator=(const SocketTable &) = delete;

    // Finds the socket of exactly this endpoint. With `wildcard`, a socket of the port on every address serves too.
    // It prefers the socket of this process.
    SocketRef Find(uint8_t protocol, const Endpoint &local, bool wildcard, uint64_t process_id = 0);

    // Finds a socket that gets what comes to a multicast group.
    SocketRef FindMember(uint8_t protocol, const Endpoint &group);

    // The socket is in the table. It leaves its groups when it is taken out.
    void Join(Socket *socket, const Address &group);

    // True if a socket has joined the group.
    bool IsJoined(const Address &group) const;

    // Returns false if the process has a socket of this endpoint already.
    bool Insert(Socket *socket);

    // Find no longer finds it.
    void Remove(Socket *socket);

  private:
    friend class Socket;

    static constexpr size_t kBuckets = 4096;

    struct Bucket
    {
        SpinLock lock;
        Socket *first = nullptr;
    };

    Bucket &BucketOf(uint8_t protocol, uint16_t port);
    static Socket *FindLocked(const Bucket &bucket, uint8_t protocol, const Endpoint &local, uint64_t process_id);
    void RemoveLocked(Bucket *bucket, Socket *socket);
    void LeaveGroups(Socket *socket);

    // Releases a reference. Takes the socket out, and returns true, if it was the last one.
    bool ReleaseReference(Socket *socket);

    wfp::Engine &engine_;
    const std::atomic<bool> &ended_;
    std::array<Bucket, kBuckets> buckets_;
    mutable SpinLock groups_lock_;
    std::vector<Address> joined_; // each group once for each member; groups_lock_ guards it
};

} // namespace sim::net
