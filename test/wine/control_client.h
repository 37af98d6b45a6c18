// A C client of the simulation under Wine (sim/wine/control_protocol.h), for one thread.
// A failed request ends the process with a message.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control_protocol.h"

typedef enum OUTCOME
{
    OutcomePermitted = 0,
    OutcomeBlocked = 1,
    OutcomeDropped = 2,
    OutcomePendingTimeout = 3,
    OutcomeRedirected = 4
} OUTCOME;

// Addresses are in network order; IPv4 uses the first four bytes.
typedef struct FLOW
{
    uint8_t Protocol;
    uint8_t Family; // 4 or 6
    uint64_t ProcessId;
    uint8_t LocalAddress[16];
    uint16_t LocalPort;
    uint8_t RemoteAddress[16];
    uint16_t RemotePort;
    const void *Payload;
    size_t PayloadLength;
} FLOW;

typedef struct ENGINE
{
    uint64_t Layers;
    uint64_t PendedOperations;
    uint64_t Injections;
    uint64_t NetBufferLists;
    uint64_t PoolBytes;
} ENGINE;

// Begins a session on a network without traffic.
void ControlOpen(void);
void ControlClose(void);

uint64_t ControlConnect(const FLOW *flow, uint64_t tag);
uint64_t ControlAccept(const FLOW *flow, uint64_t tag);
void ControlSend(uint64_t flow, const void *bytes, size_t length, uint64_t tag);
void ControlReceive(uint64_t flow, const void *bytes, size_t length, uint64_t tag);
void ControlCloseFlow(uint64_t flow);
ENGINE ControlEngine(void);

// Waits for the outcome of the request with the tag. Each outcome can be read once.
OUTCOME ControlOutcome(uint64_t tag);
