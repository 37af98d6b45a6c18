// The IP header that FwpsConstructIpHeaderForTransportPacket0 puts before a transport packet.
#pragma once

#include <ntddk.h>

#include <ndis.h>

namespace sim::wfp
{

// Puts it in place of `replaced` bytes at the start of the data.
NTSTATUS PrependIpHeader(NET_BUFFER &net_buffer, ULONG replaced, ADDRESS_FAMILY family, const UCHAR *source,
                         const UCHAR *destination, IPPROTO protocol);

} // namespace sim::wfp
