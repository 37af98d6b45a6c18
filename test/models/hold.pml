/*
 * kext/hold.c, kext/packet_cache.c, and SessionStopFiltering of kext/session.c.
 *
 * What HoldAsk holds is resolved exactly once: by a verdict (HoldApplyVerdict), by time (HoldExpire), by maintenance
 * after a failure (HoldResolveFailed), or by the end (HoldResolveAll). After the end nothing is held, and no thread
 * resolves anything.
 *
 * OUTSIDE_RUNDOWN breaks it: a verdict is carried out without entering Resolvers.
 * NO_CLASSIFY_WAIT breaks it: the end does not wait for the classifies that were inside.
 */

#define HELD 2

mtype = { nothing, cached, failed, taken, resolved };

mtype state[HELD] = nothing;
byte resolutions[HELD];
bool held[HELD];       /* a HELD was made, so it must be resolved */
bool told[HELD];       /* its record was queued: the client knows the id */
bool filtering = true; /* CLIENT.Mode */
bool open = true;      /* PACKET_CACHE, until SetOpen(FALSE) */
byte classifies;       /* inside the rundown Classifies */
byte resolvers;        /* inside the rundown Resolvers */
bool stopped;

inline Resolve(n)
{
    assert(state[n] == taken);
    resolutions[n]++;
    state[n] = resolved
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

/* One classify that holds; `n` is its id. */
proctype Classify(byte n)
{
    bool got;

    classifies++;
    if
    :: !filtering -> skip /* the fail policy, at once */
    :: else ->
        held[n] = true;
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
            :: told[n] = true; got = false /* HoldReport */
            :: Take(n, cached, got)       /* the queue was full: taken back, if nobody was faster */
            fi
        fi;
        if
        :: !got -> skip
        :: got -> atomic { state[n] = failed } /* pended: left to maintenance */
        :: got -> Resolve(n)                   /* not pended: the fail policy, here */
        fi
    fi;
    classifies--
}

/* HoldApplyVerdict for an id that was told. */
proctype Verdict(byte n)
{
    bool got;

    told[n] || stopped;
#ifndef OUTSIDE_RUNDOWN
    resolvers++;
#endif
    Take(n, cached, got);
    if
    :: got -> Resolve(n)
    :: else -> skip
    fi;
#ifndef OUTSIDE_RUNDOWN
    resolvers--
#endif
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
