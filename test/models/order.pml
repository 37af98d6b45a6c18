/*
 * kext/report.c, with CONNECTION_TABLE and IO_QUEUE as far as the order of records needs them. One key is reused.
 *
 * The client sees the records of one key in order: the questions of a connection, its end, then its successor's.
 * Each connection that was reported ends once in the stream. A connection that was never reported does not, and neither
 * does one whose questions were all withdrawn before a client read them.
 *
 * MARK_ANY_GENERATION breaks it: a late reporter marks whatever connection has the key now.
 * NO_ORDER breaks it: the look, the queueing and the mark are not one step.
 * END_FIRST breaks it: the connection is marked as ended before its end is queued, outside the order lock.
 * WITHDRAWN_ALONE breaks it: a question is withdrawn outside the order lock, and the connection's mark is undone later.
 */

#define CONNECTIONS 3 /* that use the key one after the other */
#define ASKERS      2
#define WITHDRAWALS 1

byte generation;            /* of the connection that has the key; 0: none yet */
bool live;                  /* it has not ended */
bool reported;              /* its flag in the table */
bool order;                 /* the order lock of the key */
byte asked[CONNECTIONS + 1]; /* questions in the stream, by generation */
byte ends[CONNECTIONS + 1];  /* ends in the stream, by generation */
byte newest;                /* generation of the last record */
byte askers = ASKERS;       /* threads that still ask */

#ifdef NO_ORDER
#define LOCK   skip
#define UNLOCK skip
#else
#define LOCK   atomic { !order -> order = true }
#define UNLOCK order = false
#endif

/* IoQueuePushInOrder: a question of the connection `nth` may not follow its end or a record of a successor. */
inline PushQuestion(nth)
{
    atomic {
        assert(ends[nth] == 0);
        assert(newest <= nth);
        newest = nth;
        asked[nth]++
    }
}

inline PushEnd(nth)
{
    atomic {
        assert(asked[nth] != 0 && ends[nth] == 0);
        assert(newest <= nth);
        newest = nth;
        ends[nth]++
    }
}

/* HoldAsk: ConnectionTableFindOrInsert, then the question through ReportMakeGate, or for the successor. */
proctype Ask()
{
    byte mine;
    bool passes;

    do
    :: true ->
        atomic { /* ConnectionTableFindOrInsert */
            if
            :: !live && generation == CONNECTIONS -> mine = 0
            :: !live && generation < CONNECTIONS ->
                generation++;
                live = true;
                reported = false;
                mine = generation
            :: live -> mine = generation
            fi
        };
        if
        :: mine == 0 -> break
        :: else ->
            LOCK;
            passes = live && generation == mine; /* ReportMayAsk */
#ifdef MARK_ANY_GENERATION
            passes = true;
#endif
            if
            :: passes ->
                if
                :: PushQuestion(mine);
                    atomic { /* ReportAsked */
#ifdef MARK_ANY_GENERATION
                        reported = true
#else
                        if
                        :: live && generation == mine -> reported = true
                        :: else -> skip
                        fi
#endif
                    }
                :: skip /* the queue was full */
                fi
            :: else -> skip
            fi;
            UNLOCK;
            if
            :: passes && asked[mine] != 0 -> break
            :: else -> skip
            fi
        fi
    od;
    askers--
}

/* ReportEnd, by the closure of the connection or by the release of its port. Several at once. */
proctype End()
{
    byte mine;
    bool loud;

    do
    :: askers == 0 && !live -> break
    :: live ->
        atomic { mine = generation; loud = reported }
#ifdef END_FIRST
        atomic {
            if
            :: live && generation == mine -> live = false; loud = reported
            :: else -> mine = 0
            fi
        };
        if
        :: mine != 0 && loud -> PushEnd(mine)
        :: else -> skip
        fi
#else
        LOCK;
        if
        :: live && generation == mine && reported == loud -> /* ReportMayEnd */
            if
            :: loud -> PushEnd(mine)
            :: else -> skip
            fi;
            atomic {
                if
                :: live && generation == mine -> live = false /* ReportEnded */
                :: else -> skip
                fi
            }
        :: else -> skip
        fi;
        UNLOCK
#endif
    od
}

/* ReportWithdraw, for a question that no client has read. */
proctype Withdraw()
{
    byte n;
    bool unknown;

    do
    :: askers == 0 && !live -> break
    :: asked[generation] != 0 ->
        n = generation;
#ifndef WITHDRAWN_ALONE
        LOCK;
#endif
        atomic { /* IoQueueWithdraw */
            unknown = false;
            if
            :: asked[n] != 0 ->
                asked[n]--;
                unknown = asked[n] == 0;
                ends[n] = (unknown -> 0 : ends[n])
            :: else -> skip
            fi
        };
        atomic { /* ConnectionTableForgetReported */
            if
            :: unknown && live && generation == n -> reported = false
            :: else -> skip
            fi
        };
#ifndef WITHDRAWN_ALONE
        UNLOCK;
#endif
        break
    od
}

init
{
    byte n;

    atomic {
        for (n : 1 .. ASKERS) {
            run Ask()
        }
        for (n : 1 .. WITHDRAWALS) {
            run Withdraw()
        }
        run End();
        run End()
    }
    _nr_pr == 1;
    for (n : 1 .. CONNECTIONS) {
        assert((asked[n] != 0) == (ends[n] == 1));
        assert(ends[n] <= 1)
    }
}
