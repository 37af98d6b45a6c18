// Where a driver's debug output goes.
#pragma once

#include <functional>
#include <mutex>
#include <string>

namespace sim::nt
{

class DebugPort
{
  public:
    // Called for every DbgPrint, on its thread, one at a time. Empty: the output is thrown away, as it is at first.
    using Sink = std::function<void(const std::string &text)>;
    void SetSink(Sink sink);

    void Print(const std::string &text);

  private:
    std::mutex mutex_;
    Sink sink_; // under mutex_
};

} // namespace sim::nt
