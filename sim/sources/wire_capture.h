// Writes every packet that passes to a packet capture, for tshark and similar tools.
// It is a pcapng file (draft-ietf-opsawg-pcapng) of raw IP packets, with the machine's time, on three interfaces:
//   network    packets that this computer sends to others
//   loopback   packets that this computer sends to itself
//   delivered  packets that the programs of this computer receive, from any sender
//
// Concurrency: packets come on any thread. One thread calls the methods.
#pragma once

#include "net/core.h"

#include <memory>
#include <string>

namespace sim::sources
{

class WireCapture
{
  public:
    // Replaces the file and begins. Throws std::runtime_error if it cannot be written.
    WireCapture(net::Core &core, const std::string &path);
    ~WireCapture(); // ends without an error

    WireCapture(const WireCapture &) = delete;
    WireCapture &operator=(const WireCapture &) = delete;

    // Ends. Throws std::runtime_error if not everything could be written.
    void Finish();

    // Throws std::runtime_error if both paths name the same file, or the first one a pipe.
    static void RefusePlace(const std::string &written, const std::string &read);

  private:
    class File;

    net::Core &core_;
    const std::shared_ptr<File> file_;
};

} // namespace sim::sources
