// The protocol by which a test drives the simulation under Wine, through the device \\.\NetVerdictSimulation.
//
// A request is one write to the device; the next read from the same handle gives the response.
// Each handle has one request at a time.
// After the request kControlEvents, reads of the handle give the session's events.
// Such a read waits for the next events. It ends with no bytes when the session has ended.
// A session begins with kControlBegin: the computer then has a network without traffic, and the driver stays as it is.
// It ends with kControlEnd, with the next kControlBegin, or when the handle that began it is closed.
//
// All integers are little-endian, nothing is padded. Ports are u16 numbers.
// An address is 16 bytes in network order; IPv4 uses the first four.
//
//   request    u8 operation, then its body
//   response   u32 NTSTATUS, then the body of the answer on success
//   event      u32 length of the rest, u8 kind, u64 tag (of the request that it belongs to), then its body
//
//   specification of a flow: u8 protocol, u8 family (4 or 6), u8 loopback, u64 processId, localAddress, u16 localPort,
//   remoteAddress, u16 remotePort, u8 link, u8 1 if the ICMP message is given, u8 its type, u8 its code,
//   u8 count of multicast groups, each: address, u16 0; u16 bytes of the path, UTF-16 path, payload to the end
#pragma once

#define CONTROL_DEVICE_NAME L"\\Device\\NetVerdictSimulation"
#define CONTROL_LINK_NAME   L"\\DosDevices\\NetVerdictSimulation"

// A read for events must have room for the longest event, a packet of 64 KiB; the latencies of a load are cut to it.
#define CONTROL_EVENT_BYTES (256u * 1024u)

enum ControlOperation
{
    kControlBegin = 0,
    kControlEnd = 1,
    kControlEvents = 2,
    kControlConnect = 3,       // u64 tag, flow → u64 flow
    kControlAccept = 4,        // u64 tag, flow → u64 flow
    kControlListen = 5,        // flow → u64 listener
    kControlCloseListener = 6, // u64 listener
    kControlSend = 7,          // u64 tag (0: no outcome wanted), u64 flow, bytes to the end
    kControlReceive = 8,       // the same
    kControlCloseFlow = 9,     // u64 flow
    kControlPacket = 10,       // u64 tag, u8 way (0 out, 1 in, 2 arriving, 3 forwarded), u8 link, IP packet to the end
    kControlReauthorize = 11,
    kControlWire = 12,       // u64 tag (0: ends it)
    kControlCounters = 13,   // → outbound, inbound: u64 offered, permitted, blocked, dropped, heldNow, heldTotal,
                             //   injected each; u64 flowsNow, flowsTotal, streamBytesSent, streamBytesReceived,
                             //   datagramBytesSent, datagramBytesReceived, pendingTimeouts
    kControlEngine = 14,     // → the driver's objects in the filter engine: u64 layers with filters, pended operations,
                             //   injections, net buffer lists; and u64 bytes of the simulation's pool
    kControlLoad = 15,       // u64 tag, u64 connections, u32 inFlight, u8 protocol, u8 ipVersion,
                             //   u32 packetsPerConnection, u32 payloadLength
    kControlReplay = 16,     // u64 tag, f64 speed, u16 count of prefixes, each: u8 family, address, u8 length; then the
                             //   path in UTF-8 to the end
    kControlStopReplay = 17, // u64 tag
    kControlHinder = 18,     // u8 hindrance (sim/wfp/hindrance.h), u32 NTSTATUS
    kControlAcceptSecured = 19
};

enum ControlEvent
{
    kControlOutcome = 1,  // u8 kind (0 permitted, 1 blocked, 2 dropped, 3 pending timeout, 4 redirected),
                          //   u8 family, address, u16 port of the target, if redirected
    kControlOnWire = 2,   // u8 direction, IP packet to the end
    kControlLoaded = 3,   // f64 seconds, u64 permitted, blocked, dropped, f32 latencies to the end
    kControlProgress = 4, // u64 frames, bytes, totalBytes
    kControlReplayed = 5, // u64 frames, bytes, ipPackets, fragments, nonIpFrames, foreignFrames, malformedFrames,
                          //   tcpConversations, udpConversations, otherPackets; UTF-8 warning to the end
    kControlFailed = 6    // UTF-8 message to the end: of a replay
};
