// The IP header that FwpsConstructIpHeaderForTransportPacket0 puts before a transport packet.
#pragma once

#include <ntddk.h>

#include <ndis.h>

namespace sim::wfp
{

// Replaces the first `replaced` bytes of the data by the header.
NTSTATUS PrependIpHeader(NET_BUFFER &net_buffer, ULONG replaced, ADDRESS_FAMILY family, const UCHAR *source,
                         const UCHAR *destination, IPPROTO protocol);

} // namespace sim::wfp
