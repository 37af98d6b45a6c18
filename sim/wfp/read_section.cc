#include "read_section.h"

namespace sim::wfp
{

bool ReadSection::TryAdvance()
{
    const uint64_t ending = generation_.load();

    for (const Slot &slot : slots_)
    {
        if (slot.inside[(ending + 1) & 1].load() != 0)
        {
            return false;
        }
    }
    generation_.store(ending + 1);
    return true;
}

} // namespace sim::wfp
