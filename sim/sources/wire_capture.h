// Writes what is let through to a packet capture, for tshark and its like: a pcapng file (draft-ietf-opsawg-pcapng) of
// raw IP packets, by the machine's clock, on three interfaces. 'network': sent to other computers. 'loopback': sent to
// this one itself. 'delivered': given to this computer's programs, wherever it came from.
//
// Concurrency: packets come on any thread; the rest is for one.
#pragma once

#include "net/core.h"

#include <memory>
#include <string>

namespace sim::sources
{

class WireCapture
{
  public:
    // Replaces the file and begins. Throws std::runtime_error where it cannot be written.
    WireCapture(net::Core &core, const std::string &path);
    ~WireCapture(); // ends without a word

    WireCapture(const WireCapture &) = delete;
    WireCapture &operator=(const WireCapture &) = delete;

    // Ends. Throws std::runtime_error where not all could be written.
    void Finish();

    // Throws std::runtime_error where the capture would be written over the one that is being read.
    static void RefuseSameFile(const std::string &written, const std::string &read);

  private:
    class File;

    net::Core &core_;
    const std::shared_ptr<File> file_;
};

} // namespace sim::sources
