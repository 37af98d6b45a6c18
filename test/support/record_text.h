// A record of the driver as one line of text, for the message of a failed test.
#pragma once

#include "support/records.h"

namespace kext_test
{

// The type by name, each field, and a payload in hexadecimal.
std::string TextOf(const Record &record);

} // namespace kext_test
