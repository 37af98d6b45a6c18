/*
 * kext/stall.c, and HoldWatch and HoldResolveWhileStalled of kext/hold.c.
 *
 * Two rounds of maintenance may overlap. Holders ask, and the client may give a sign of life. Time is not modelled: the
 * limit of a question that waits has passed unless the client was heard. The timer of each round fires once.
 * After the sign of life the client is not stalled. While it is stalled no question waits. Each stall ends once.
 *
 * NO_SECOND_LOOK breaks it: the start of a stall does not look once more whether the client was heard.
 * NO_WATCH breaks it: a holder does not look for a stall after it inserted its question.
 * NO_EXCHANGE breaks it: the end of a stall reads and clears the flag in two steps.
 */

#define QUESTIONS 2
#define ROUNDS 2

bool cached[QUESTIONS];
byte resolutions[QUESTIONS];
bool heard;        /* CLIENT.HeardTime is later than the questions */
bool stalled;      /* CLIENT.Stalled */
byte begun;        /* stalls */
byte ended;        /* ends that were reported */
byte timers = ROUNDS; /* that have not fired */
bool due;          /* DEFERRED_DUE */
byte others;       /* holders and signs of life that still run */

/* StallEnd. */
inline End(was)
{
#ifdef NO_EXCHANGE
    was = stalled;
    stalled = false;
#else
    atomic { was = stalled; stalled = false }
#endif
    if
    :: was -> ended++
    :: else -> skip
    fi;
    was = false
}

inline Take(n, got)
{
    atomic { got = cached[n]; cached[n] = false };
    if
    :: got -> resolutions[n]++
    :: else -> skip
    fi;
    got = false
}

proctype Holder(byte n)
{
    if
    :: stalled -> resolutions[n]++ /* HoldFailStalled */
    :: else ->
        cached[n] = true; /* PacketCacheInsert */
#ifndef NO_WATCH
        if /* HoldWatch */
        :: stalled -> due = true
        :: else -> skip
        fi
#endif
    fi;
    others--
}

proctype Sign()
{
    bool was;

    if
    :: skip
    :: heard = true; End(was)
    fi;
    others--
}

/* StallCheck. */
proctype Round()
{
    bool got;
    bool was;
    byte n;

    do
    :: atomic {
            if
            :: due -> due = false
            :: timers > 0 -> timers--
            fi
        };
        if
        :: stalled -> skip
        :: else ->
            if
            :: heard || !(cached[0] || cached[1]) -> skip /* the limit has not passed */
            :: else ->
                atomic { was = stalled; stalled = true; begun = begun + (was -> 0 : 1) };
#ifndef NO_SECOND_LOOK
                if
                :: !was && (heard || !(cached[0] || cached[1])) -> End(was)
                :: else -> was = false
                fi
#else
                was = false
#endif
            fi
        fi;
        n = 0;
        do
        :: n < QUESTIONS && stalled -> Take(n, got); n++
        :: else -> break
        od
    :: others == 0 && !due && timers == 0 -> break
    od
}

init
{
    byte n;

    atomic {
        others = QUESTIONS + 1;
        for (n : 0 .. QUESTIONS - 1) {
            run Holder(n)
        }
        run Sign();
        for (n : 1 .. ROUNDS) {
            run Round()
        }
    }
    _nr_pr == 1;
    assert(!stalled || !heard);
    assert(ended + stalled == begun);
    for (n : 0 .. QUESTIONS - 1) {
        assert(resolutions[n] + cached[n] == 1);
        assert(!stalled || !cached[n])
    }
}
