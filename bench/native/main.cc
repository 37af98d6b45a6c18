// Every benchmark runs on a simulated computer of its own, without the verifier: its checks are for tests.
#include <benchmark/benchmark.h>

#include "machine_fixture.h"

sim::Machine &bench::Machine()
{
    static sim::Machine machine(
        []
        {
            sim::MachineOptions options;
            options.verifier = false;
            return options;
        }());
    return machine;
}

int main(int argc, char **argv)
{
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv))
    {
        return 2;
    }
    sim::Machine::Scope scope(bench::Machine());
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
