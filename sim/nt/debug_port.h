// The debug port of a machine: receives a driver's debug output.
#pragma once

#include <functional>
#include <mutex>
#include <string>

namespace sim::nt
{

class DebugPort
{
  public:
    // Called for every DbgPrint, on its thread, one call at a time. An empty sink, the default, drops the output.
    using Sink = std::function<void(const std::string &text)>;
    void SetSink(Sink sink);

    void Print(const std::string &text);

  private:
    std::mutex mutex_;
    Sink sink_; // guarded by mutex_
};

} // namespace sim::nt
