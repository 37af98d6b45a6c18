#include "support/injected.h"

#include "support/packet_chain.h"

namespace kext_test
{

Injected CopyOf(const Injection &injection)
{
    Injected injected;

    injected.kind = injection.kind;
    injected.bytes = BytesOf(injection.net_buffer_list->FirstNetBuffer);
    injected.compartment = injection.compartment;
    injected.interface_index = injection.interface_index;
    injected.sub_interface_index = injection.sub_interface_index;
    injected.endpoint_handle = injection.endpoint_handle;
    injected.remote_address = injection.remote_address;
    injected.remote_scope = injection.remote_scope.Value;
    if (injection.control_data_length != 0)
    {
        const auto *control = reinterpret_cast<const uint8_t *>(injection.control_data);

        injected.control_data.assign(control, control + injection.control_data_length);
    }
    if (injection.header_include_length != 0)
    {
        injected.header_include.assign(injection.header_include,
                                       injection.header_include + injection.header_include_length);
    }
    return injected;
}

} // namespace kext_test
