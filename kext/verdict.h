// What each verdict means, layer by layer: one constant row per verdict, and the one type of a decision.
//
// Pure data: no state, no locks, any IRQL.

#pragma once

#include "protocol.h"

EXTERN_C_START

/// What happens to a packet or an operation.
typedef enum _DECISION
{
    DecisionPermit,
    DecisionBlock,    ///< no later filter changes it, and the sender gets an error
    DecisionAbsorb,   ///< no later filter changes it, and the sender gets no answer
    DecisionRedirect, ///< its copy becomes a packet of another connection, and the original is absorbed
    DecisionAsk,      ///< the client decides, so the packet or operation must be held
    DecisionHeld      ///< it is absorbed, and its copy waits for a verdict or for its datagram's first fragment
} DECISION;

/// Which of the client's ports a verdict redirects to.
typedef enum _OWN_PORT
{
    OwnPortDns,
    OwnPortTunnel,
    OwnPortSplitTunnel
} OWN_PORT;

typedef struct _VERDICT_ROW
{
    UINT8 Ale[2];   ///< DECISION at the authorizing layer of a DIRECTION, for a connection with this verdict
    UINT8 Attempt;  ///< DECISION on one outbound attempt of an extended client; DecisionPermit: Ale decides
    UINT8 Packet;   ///< DECISION on a packet of a live connection with this verdict
    UINT8 Resolve;  ///< DECISION on a held packet when this verdict comes, and on one sent after the connection's end
    UINT8 Port;     ///< OWN_PORT, where Resolve is DecisionRedirect
    UINT8 TimesOut; ///< whether it may be a TimeoutVerdict: it asks nothing, and needs no client to redirect to
    const CHAR *Name;
} VERDICT_ROW;

extern const VERDICT_ROW VerdictRows[VerdictCount];

/// Returns what a decision made of a packet, for the log: "permitted", "blocked", "held" or "dropped". Any IRQL.
const CHAR *VerdictDecisionText(_In_ DECISION decision);

/// Returns the row of a verdict. A number that is no verdict gets the row of VerdictFailed.
FORCEINLINE const VERDICT_ROW *VerdictRow(_In_ UINT8 verdict)
{
    return &VerdictRows[verdict < VerdictCount ? verdict : (UINT8)VerdictFailed];
}

/// Returns whether an extended client's verdict refuses one attempt, after which the connection is undecided.
FORCEINLINE BOOLEAN VerdictIsForOneAttempt(_In_ const VERDICT_ROW *row)
{
    return row->Attempt != DecisionPermit;
}

/// Returns whether a held packet goes on unchanged when this verdict comes.
FORCEINLINE BOOLEAN VerdictPermits(_In_ UINT8 verdict)
{
    return VerdictRow(verdict)->Resolve == DecisionPermit;
}

/// Returns whether this verdict sends a connection's packets to one of the client's ports.
FORCEINLINE BOOLEAN VerdictRedirects(_In_ UINT8 verdict)
{
    return VerdictRow(verdict)->Resolve == DecisionRedirect;
}

EXTERN_C_END
