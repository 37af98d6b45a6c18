/*
 * kext/hold.c, kext/packet_cache.c, and SessionStopFiltering of kext/session.c.
 *
 * What HoldAsk holds is resolved exactly once: by a verdict (HoldApplyVerdict), by time (HoldExpire), by another classify
 * for which it is given up (HoldGiveUp), by maintenance after a failure (HoldResolveFailed), or by the end
 * (HoldResolveAll). After the end nothing is held, and no thread resolves anything.
 * A client never reads a question that was given up before. No thread uses a HELD that was freed.
 * The lock of the queue serializes the charges, the records that wait and the choice of who gives way (kext/lanes.h).
 *
 * OUTSIDE_RUNDOWN breaks it: a verdict is carried out without entering Resolvers.
 * NO_CLASSIFY_WAIT breaks it: the end does not wait for the classifies that were inside.
 * NO_REFERENCE breaks it: a holder has no reference to its HELD while it queues the record.
 * NO_RELEASE breaks it: a HELD is freed while its owner is charged for it.
 * RECORD_STAYS breaks it: the record of a question that is given up stays in the queue.
 */

#define HELD 2

mtype = { nothing, cached, failed, taken, resolved };

mtype state[HELD] = nothing;
byte resolutions[HELD];
bool held[HELD];       /* a HELD was made, so it must be resolved */
bool charged[HELD];    /* to its owner */
bool listed[HELD];     /* among the questions that may be given up */
bool waits[HELD];      /* its record is in the queue */
bool given_up[HELD];   /* before the client read it */
byte references[HELD];
bool freed[HELD];
bool filtering = true; /* CLIENT.Mode */
bool open = true;      /* PACKET_CACHE, until SetOpen(FALSE) */
byte classifies;       /* inside the rundown Classifies */
byte resolvers;        /* inside the rundown Resolvers */
bool stopped;

inline Dereference(n)
{
    atomic {
        references[n]--;
        freed[n] = references[n] == 0
    }
}

inline Resolve(n)
{
    assert(state[n] == taken);
#ifndef NO_RELEASE
    atomic { charged[n] = false; listed[n] = false } /* IoQueueRelease */
#endif
    resolutions[n]++;
    state[n] = resolved;
    Dereference(n)
}

/* PacketCacheTake, PacketCacheTakeExpired, PacketCacheTakeAny: under the shard's lock. */
inline Take(n, from, got)
{
    atomic {
        if
        :: state[n] == from -> state[n] = taken; got = true
        :: else -> got = false
        fi
    }
}

/* HoldGiveUp, inside the classify of another HELD. */
inline GiveUp(m, got)
{
    got = false;
    atomic { /* LanesGiveUp */
        if
        :: charged[m] && listed[m] ->
            assert(!freed[m]);
            charged[m] = false;
            listed[m] = false;
            got = true
        :: else -> skip
        fi
    }
    if
    :: !got -> skip
    :: got ->
        Take(m, cached, got);
        if
        :: !got -> skip /* whoever took it resolves it, and its record is read */
        :: else ->
            atomic { /* ReportWithdraw */
                assert(!freed[m]);
                given_up[m] = waits[m];
#ifndef RECORD_STAYS
                waits[m] = false
#endif
            }
        fi;
        if
        :: !got -> skip
        :: got -> atomic { state[m] = failed; got = false } /* pended: left to maintenance */
        :: got -> Resolve(m)
        fi
    fi
}

/* One classify that holds; `n` is its id. */
proctype Classify(byte n)
{
    bool got;

    classifies++;
    if
    :: !filtering -> skip /* the fail policy, at once */
    :: else ->
        if
        :: n == 0 -> skip
        :: n > 0 -> GiveUp(n - 1, got) /* the one before holds more */
        fi;
        atomic {
            held[n] = true;
            charged[n] = true; /* LanesAdmit */
#ifdef NO_REFERENCE
            references[n] = 1
#else
            references[n] = 2
#endif
        }
        atomic { /* PacketCacheInsert */
            if
            :: open -> state[n] = cached; got = false
            :: else -> state[n] = taken; got = true
            fi
        }
        if
        :: got -> skip /* refused, and ours */
        :: else ->
            if
            :: got = false; /* HoldReport */
                atomic {
                    assert(!freed[n]);
                    waits[n] = true;
                    listed[n] = charged[n]
                }
            :: Take(n, cached, got)       /* the queue was full: taken back, if nobody was faster */
            fi
        fi;
        if
        :: !got -> skip
        :: got -> atomic { charged[n] = false; listed[n] = false; state[n] = failed } /* pended: left to maintenance */
        :: got -> Resolve(n)                   /* not pended: the fail policy, here */
        fi;
#ifndef NO_REFERENCE
        Dereference(n)
#endif
    fi;
    classifies--
}

/* The client reads a question, and HoldApplyVerdict carries its verdict out. */
proctype Verdict(byte n)
{
    bool got;

    if
    :: atomic { waits[n] -> waits[n] = false; assert(!given_up[n]) }
    :: stopped -> goto done
    fi;
#ifndef OUTSIDE_RUNDOWN
    resolvers++;
#endif
    Take(n, cached, got);
    if
    :: got -> Resolve(n)
    :: else -> skip
    fi;
#ifndef OUTSIDE_RUNDOWN
    resolvers--;
#endif
done:
}

/* MaintenanceRound: HoldResolveFailed, then HoldExpire. Once a HELD, at any time. */
proctype Maintenance(byte n)
{
    bool got;

    resolvers++;
    Take(n, failed, got);
    if
    :: got -> Resolve(n)
    :: else -> skip
    fi;
    Take(n, cached, got);
    if
    :: got -> Resolve(n)
    :: else -> skip
    fi;
    resolvers--
}

/* SessionStopFiltering. */
proctype Stop()
{
    byte n;
    bool got;

    filtering = false;
    open = false;
#ifndef NO_CLASSIFY_WAIT
    classifies == 0; /* RundownWait */
#endif
    for (n : 0 .. HELD - 1) {
        Take(n, failed, got);
        if
        :: got -> Resolve(n)
        :: else -> skip
        fi
    }
    for (n : 0 .. HELD - 1) {
        Take(n, cached, got);
        if
        :: got -> Resolve(n)
        :: else -> skip
        fi
    }
    resolvers == 0; /* RundownWait */
    for (n : 0 .. HELD - 1) {
        assert(!held[n] || (state[n] == resolved && resolutions[n] == 1))
    }
    stopped = true
}

init
{
    byte n;

    atomic {
        for (n : 0 .. HELD - 1) {
            run Classify(n);
            run Verdict(n);
            run Maintenance(n)
        }
        run Stop()
    }
    _nr_pr == 1;
    for (n : 0 .. HELD - 1) {
        assert(resolutions[n] <= 1)
    }
}
