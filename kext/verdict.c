#include "verdict.h"

#define PERMIT   DecisionPermit
#define BLOCK    DecisionBlock
#define ABSORB   DecisionAbsorb
#define REDIRECT DecisionRedirect
#define ASK      DecisionAsk

// ALE permits an outbound connection with a temporary verdict, because the packet layer then asks about each packet.
const VERDICT_ROW VerdictRows[VerdictCount] = {
    // clang-format off
    //                              ALE: out  in      packet    resolve   port                times out
    [VerdictUndecided]           = {{ASK,    ASK},    ASK,      ABSORB,   0,                  FALSE},
    [VerdictUndeterminable]      = {{BLOCK,  BLOCK},  ABSORB,   ABSORB,   0,                  FALSE},
    [VerdictAccept]              = {{PERMIT, PERMIT}, ASK,      PERMIT,   0,                  TRUE},
    [VerdictPermanentAccept]     = {{PERMIT, PERMIT}, PERMIT,   PERMIT,   0,                  TRUE},
    [VerdictBlock]               = {{PERMIT, BLOCK},  ASK,      ABSORB,   0,                  TRUE},
    [VerdictPermanentBlock]      = {{BLOCK,  BLOCK},  BLOCK,    ABSORB,   0,                  TRUE},
    [VerdictDrop]                = {{PERMIT, ABSORB}, ASK,      ABSORB,   0,                  TRUE},
    [VerdictPermanentDrop]       = {{ABSORB, ABSORB}, ABSORB,   ABSORB,   0,                  TRUE},
    [VerdictRedirectNameServer]  = {{PERMIT, PERMIT}, REDIRECT, REDIRECT, OwnPortDns,         FALSE},
    [VerdictRedirectTunnel]      = {{PERMIT, PERMIT}, REDIRECT, REDIRECT, OwnPortTunnel,      FALSE},
    [VerdictFailed]              = {{BLOCK,  BLOCK},  ABSORB,   ABSORB,   0,                  FALSE},
    [VerdictRedirectSplitTunnel] = {{PERMIT, PERMIT}, REDIRECT, REDIRECT, OwnPortSplitTunnel, FALSE},
    // clang-format on
};
