#include "verdict.h"

#define PERMIT   DecisionPermit
#define BLOCK    DecisionBlock
#define ABSORB   DecisionAbsorb
#define REDIRECT DecisionRedirect
#define ASK      DecisionAsk

// ALE permits an outbound connection with a temporary verdict, because the packet layer then asks about each packet.
// An extended client's temporary refusal is carried out at ALE, so the program learns of it at once.
const VERDICT_ROW VerdictRows[VerdictCount] = {
    // clang-format off
    //                              ALE: out  in      attempt packet    resolve   port                timeout name
    [VerdictUndecided]           = {{ASK,    ASK},    PERMIT, ASK,      ABSORB,   0,                  FALSE, "Undecided"},
    [VerdictUndeterminable]      = {{BLOCK,  BLOCK},  PERMIT, ABSORB,   ABSORB,   0,                  FALSE, "Undeterminable"},
    [VerdictAccept]              = {{PERMIT, PERMIT}, PERMIT, ASK,      PERMIT,   0,                  TRUE,  "Accept"},
    [VerdictPermanentAccept]     = {{PERMIT, PERMIT}, PERMIT, PERMIT,   PERMIT,   0,                  TRUE,  "PermanentAccept"},
    [VerdictBlock]               = {{PERMIT, BLOCK},  BLOCK,  ASK,      ABSORB,   0,                  TRUE,  "Block"},
    [VerdictPermanentBlock]      = {{BLOCK,  BLOCK},  PERMIT, BLOCK,    ABSORB,   0,                  TRUE,  "PermanentBlock"},
    [VerdictDrop]                = {{PERMIT, ABSORB}, ABSORB, ASK,      ABSORB,   0,                  TRUE,  "Drop"},
    [VerdictPermanentDrop]       = {{ABSORB, ABSORB}, PERMIT, ABSORB,   ABSORB,   0,                  TRUE,  "PermanentDrop"},
    [VerdictRedirectNameServer]  = {{PERMIT, PERMIT}, PERMIT, REDIRECT, REDIRECT, OwnPortDns,         FALSE, "RedirectNameServer"},
    [VerdictRedirectTunnel]      = {{PERMIT, PERMIT}, PERMIT, REDIRECT, REDIRECT, OwnPortTunnel,      FALSE, "RedirectTunnel"},
    [VerdictFailed]              = {{BLOCK,  BLOCK},  PERMIT, ABSORB,   ABSORB,   0,                  FALSE, "Failed"},
    [VerdictRedirectSplitTunnel] = {{PERMIT, PERMIT}, PERMIT, REDIRECT, REDIRECT, OwnPortSplitTunnel, FALSE, "RedirectSplitTunnel"},
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
