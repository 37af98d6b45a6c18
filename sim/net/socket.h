// A local endpoint: what a process has bound. It is assigned its port once, and released once.
//
// Concurrency: what describes the endpoint does not change after Bind; the table may be used from any thread. Layers
// are classified with no lock held.
#pragma once

#include "net/address.h"
#include "net/spin_lock.h"

#include <ntddk.h>

#include <ndis.h>

#include <fwpsk.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace sim::net
{

class Core;
class Resources;
class SocketTable;

class Socket
{
  public:
    Socket(Resources &resources, uint8_t protocol, const Endpoint &local, uint64_t process_id,
           const std::u16string &process_path, bool loopback, bool shared);

    Socket(const Socket &) = delete;
    Socket &operator=(const Socket &) = delete;

    uint8_t protocol() const { return protocol_; }
    const Endpoint &local() const { return local_; }
    uint64_t handle() const { return handle_; }
    uint64_t process_id() const { return process_id_; }
    bool loopback() const { return loopback_; }

    // Shared endpoints (listeners, UDP) are found by their address, and have a closure of their own.
    bool shared() const { return shared_; }

    // The process path as UTF-16 with its end; nullptr where it is not known.
    FWP_BYTE_BLOB *process_path() const { return path_.empty() ? nullptr : &path_blob_; }

    // ALE_RESOURCE_ASSIGNMENT, for protocols that have ports. False: it was blocked.
    bool Bind();

    void AddReference() { references_.fetch_add(1, std::memory_order_relaxed); }

    // The last one closes it: ALE_ENDPOINT_CLOSURE where it is shared, ALE_RESOURCE_RELEASE. A TCP listener is closed
    // before, with its application's last hold on it.
    void Release();

    // The same without indications, where the stack ends. Shared ones that are open are the table's to delete.
    void Abandon()
    {
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1 &&
            (!shared_ || closed_.load(std::memory_order_relaxed)))
        {
            delete this;
        }
    }

  private:
    friend class Core;
    friend class SocketTable;

    ~Socket() = default;
    void Close();

    Resources &resources_;
    const Endpoint local_;
    const uint64_t handle_;
    const uint64_t process_id_;
    const uint8_t protocol_;
    const bool loopback_;
    const bool shared_;
    bool bound_ = false;
    std::u16string path_;
    mutable FWP_BYTE_BLOB path_blob_{};
    std::atomic<uint32_t> references_{1};
    std::atomic<uint32_t> owners_{0};    // applications that hold it
    std::atomic<uint32_t> listeners_{0}; // of these, without a conversation
    std::atomic<bool> closed_{false};
    std::atomic<uint32_t> accepted_{0}; // conversations that it has accepted by itself, ever
    Socket *next_ = nullptr;            // of the table
};

// An owner of one reference.
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

    // Without indications, where the stack ends.
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

// Shared sockets by protocol, address and port. Processes may share an endpoint (SO_REUSEADDR), each with a socket of
// its own.
class SocketTable
{
  public:
    SocketTable() = default;
    ~SocketTable(); // forgets what is left

    SocketTable(const SocketTable &) = delete;
    SocketTable &operator=(const SocketTable &) = delete;

    // The socket of exactly this endpoint, or, with `wildcard`, one of the same port on every address; if it can be,
    // the process's own.
    SocketRef Find(uint8_t protocol, const Endpoint &local, bool wildcard, uint64_t process_id = 0);

    // False: the process has one already.
    bool Insert(Socket *socket);

    // It is not found any more.
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
    static void RemoveLocked(Bucket *bucket, Socket *socket);

    // Takes the socket out if this was the last reference. Whether it was.
    bool ReleaseReference(Socket *socket);

    std::array<Bucket, kBuckets> buckets_;
};

} // namespace sim::net
