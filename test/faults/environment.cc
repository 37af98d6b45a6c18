// Faults of an addon built for tests: NETVERDICT_FAULTS=FOLDER in the environment makes the driver's calls fail.
// Each call stack fails once among all processes with that folder. Every stack that has failed leaves a file there.
#include "nt/call_stack.h"
#include "nt/fault_injection.h"

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <unordered_set>

#include <fcntl.h>
#include <unistd.h>

namespace
{

class OncePerFolder : public sim::nt::FaultPlan
{
  public:
    explicit OncePerFolder(const char *folder) : folder_(folder) {}

    bool Fails(const sim::nt::CallStack &stack) override
    {
        const uint64_t hash = stack.Hash();

        {
            const std::lock_guard<std::mutex> lock(mutex_);

            if (!seen_.insert(hash).second)
            {
                return false;
            }
        }
        return Claim(hash, stack);
    }

  private:
    bool Claim(uint64_t hash, const sim::nt::CallStack &stack) const
    {
        char name[32];

        std::snprintf(name, sizeof(name), "/%016" PRIx64, hash);

        const int file = open((folder_ + name).c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);

        if (file < 0)
        {
            return false;
        }

        const std::string text = stack.Describe() + "\n";
        const ssize_t written = write(file, text.data(), text.size());

        close(file);
        return written > 0;
    }

    const std::string folder_;
    std::mutex mutex_;
    std::unordered_set<uint64_t> seen_; // guarded by mutex_
};

[[maybe_unused]] const bool planned = []
{
    const char *folder = std::getenv("NETVERDICT_FAULTS");

    if (folder == nullptr)
    {
        return false;
    }

    static OncePerFolder plan(folder);

    sim::nt::FaultInjection::SetPlan(&plan);
    return true;
}();

} // namespace
