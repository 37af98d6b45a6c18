#include "verdict.h"

#define PERMIT   DecisionPermit
#define BLOCK    DecisionBlock
#define ABSORB   DecisionAbsorb
#define REDIRECT DecisionRedirect
#define ASK      DecisionAsk

// ALE permits an outbound connection with a temporary verdict, because the packet layer then asks about each packet.
const VERDICT_ROW VerdictRows[VerdictCount] = {
    // clang-format off
    //                              ALE: out  in      packet    resolve   port                timeout name
    [VerdictUndecided]           = {{ASK,    ASK},    ASK,      ABSORB,   0,                  FALSE, "Undecided"},
    [VerdictUndeterminable]      = {{BLOCK,  BLOCK},  ABSORB,   ABSORB,   0,                  FALSE, "Undeterminable"},
    [VerdictAccept]              = {{PERMIT, PERMIT}, ASK,      PERMIT,   0,                  TRUE,  "Accept"},
    [VerdictPermanentAccept]     = {{PERMIT, PERMIT}, PERMIT,   PERMIT,   0,                  TRUE,  "PermanentAccept"},
    [VerdictBlock]               = {{PERMIT, BLOCK},  ASK,      ABSORB,   0,                  TRUE,  "Block"},
    [VerdictPermanentBlock]      = {{BLOCK,  BLOCK},  BLOCK,    ABSORB,   0,                  TRUE,  "PermanentBlock"},
    [VerdictDrop]                = {{PERMIT, ABSORB}, ASK,      ABSORB,   0,                  TRUE,  "Drop"},
    [VerdictPermanentDrop]       = {{ABSORB, ABSORB}, ABSORB,   ABSORB,   0,                  TRUE,  "PermanentDrop"},
    [VerdictRedirectNameServer]  = {{PERMIT, PERMIT}, REDIRECT, REDIRECT, OwnPortDns,         FALSE, "RedirectNameServer"},
    [VerdictRedirectTunnel]      = {{PERMIT, PERMIT}, REDIRECT, REDIRECT, OwnPortTunnel,      FALSE, "RedirectTunnel"},
    [VerdictFailed]              = {{BLOCK,  BLOCK},  ABSORB,   ABSORB,   0,                  FALSE, "Failed"},
    [VerdictRedirectSplitTunnel] = {{PERMIT, PERMIT}, REDIRECT, REDIRECT, OwnPortSplitTunnel, FALSE, "RedirectSplitTunnel"},
    // clang-format on
};

_Use_decl_annotations_
const CHAR *VerdictDecisionText(DECISION decision)
{
    switch (decision)
    {
    case DecisionPermit:
        return "permitted";
    case DecisionBlock:
        return "blocked";
    case DecisionHeld:
        return "held";
    default:
        return "dropped";
    }
}
