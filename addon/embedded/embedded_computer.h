// The driver's core in this process: a simulated computer with the driver loaded.
#pragma once

#include <memory>

#include <ntddk.h>

#include "machine.h"

namespace netverdict
{

struct EmbeddedComputerOptions
{
    bool virtual_clock = false;
    bool verifier = true;
};

class EmbeddedComputer
{
  public:
    // Returns the driver's status if it does not load.
    static NTSTATUS Start(const EmbeddedComputerOptions &options, std::shared_ptr<EmbeddedComputer> *computer);

    // Unloads the driver. Its devices must be closed before.
    ~EmbeddedComputer();

    EmbeddedComputer(const EmbeddedComputer &) = delete;
    EmbeddedComputer &operator=(const EmbeddedComputer &) = delete;

    sim::Machine &machine() { return machine_; }

  private:
    explicit EmbeddedComputer(const EmbeddedComputerOptions &options);

    sim::Machine machine_;
    PDRIVER_OBJECT driver_ = nullptr;
};

} // namespace netverdict
