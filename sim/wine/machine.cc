// The one machine of a Wine process that runs drivers. It is created at the driver's first call.
// It lives as long as the process: Wine unloads drivers, but not this library, its threads or its device.

#include "machine.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "control_device.h"
#include "module.h"
#include "nt/bugcheck.h"
#include "session.h"

namespace
{

constexpr char kLogFile[] = "C:\\netverdict-simulation.log";

struct Simulation
{
    sim::Machine machine;
    sim::wine::Session session{machine};
};

Simulation *MakeSimulation()
{
    auto *simulation = new Simulation;

    // This process has no stderr.
    sim::SetBugcheckOutput(std::fopen(kLogFile, "a"));
    sim::wine::KeepModule();
    const int32_t status = ControlDeviceCreate();
    if (status < 0)
    {
        sim::Bugcheck("NO_CONTROL_DEVICE", "the device of the simulation was refused: 0x%08x", status);
    }
    return simulation;
}

Simulation &TheSimulation()
{
    static Simulation *const simulation = MakeSimulation();
    return *simulation;
}

} // namespace

sim::Machine &sim::Machine::OfForeignThread()
{
    return TheSimulation().machine;
}

extern "C" int ControlExecute(const void *owner, const uint8_t *request, size_t length, uint8_t **response,
                              size_t *response_length)
{
    const std::vector<uint8_t> bytes = TheSimulation().session.Execute(owner, request, length);

    *response = static_cast<uint8_t *>(std::malloc(bytes.size()));
    if (*response == nullptr)
    {
        return 0;
    }
    std::memcpy(*response, bytes.data(), bytes.size());
    *response_length = bytes.size();
    return 1;
}

extern "C" uint64_t ControlSession(void)
{
    return TheSimulation().session.events().session();
}

extern "C" int ControlIsReadable(uint64_t session)
{
    return TheSimulation().session.events().IsReadable(session) ? 1 : 0;
}

extern "C" int64_t ControlTakeEvents(uint64_t session, uint8_t *buffer, size_t capacity)
{
    return TheSimulation().session.events().Take(session, buffer, capacity);
}

extern "C" void ControlHandleClosed(const void *owner)
{
    TheSimulation().session.HandleClosed(owner);
}
