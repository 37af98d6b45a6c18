/*
 * kext/deferred.c: threads add work that has a time, and a timer has a run do it.
 * A thread adds the work under a lock, then reads Alarm, and arms the timer if Alarm is later than the work's time.
 * The timer's routine disarms and queues a run. The run does what is due, and arms the timer for the rest.
 * At the end no work is left: work without a timer or a run would be left for ever.
 *
 * Times are 1 and 2, and NEVER. A timer that is set may fire at any moment, and then its time has come.
 * deferred.h says why a thread that reads Alarm after its critical section sees what an earlier run has written.
 *
 * STOPS_LATE breaks it: the run disarms after it has looked for work.
 * SETS_ONCE breaks it: a thread that changed Alarm does not look again after it has set the timer.
 */

#define NEVER 3
#define THREADS 2

byte work[3];       /* work of each time, under the lock */
byte alarm = NEVER; /* DEFERRED.Alarm */
byte timer = NEVER; /* the kernel's timer */
byte now;           /* ClockNow */
bool due;           /* DEFERRED_DUE, with a queued run */
byte adders = THREADS;

/* DeferredSetTimer */
inline SetTimer(seen)
{
    do
    ::  seen = alarm;
        timer = seen; /* KeSetTimer or KeCancelTimer */
#ifdef SETS_ONCE
        break
#else
        if
        :: alarm == seen -> break
        :: else -> skip
        fi
#endif
    od;
    seen = 0
}

/* DeferredRunBy and DeferredArm */
inline RunBy(time, found, seen)
{
    found = alarm;
    do
    :: time < found ->
        atomic
        {
            if
            :: alarm == found -> alarm = time; found = NEVER + 1
            :: else -> found = alarm
            fi
        }
        if
        :: found == NEVER + 1 -> SetTimer(seen); break
        :: else -> skip
        fi
    :: else -> break
    od;
    found = 0
}

proctype Adder(byte time)
{
    byte found;
    byte seen;

    work[time]++; /* under the lock */
    RunBy(time, found, seen);
    adders--
}

/* DeferredTimerFired */
active proctype Timer()
{
    do
    ::  atomic { timer != NEVER -> now = (timer > now -> timer : now); timer = NEVER }
#ifndef STOPS_LATE
        alarm = NEVER; /* interlocked */
#endif
        due = true
    ::  timeout -> break
    od
}

/* DeferredRun and MaintenanceRound. Two runs may overlap. */
active [2] proctype Run()
{
    byte next;
    byte found;
    byte seen;

    do
    ::  atomic { due -> due = false }
        /* Each kind of work has its own lock. */
        atomic
        {
            next = NEVER;
            if
            :: work[1] != 0 -> work[1] = 0 /* it is due whenever the timer has fired */
            :: else -> skip
            fi
        }
        atomic
        {
            if
            :: work[2] != 0 && now == 2 -> work[2] = 0
            :: work[2] != 0 && now != 2 -> next = 2
            :: else -> skip
            fi
        }
#ifdef STOPS_LATE
        alarm = NEVER;
#endif
        if
        :: next != NEVER -> RunBy(next, found, seen)
        :: else -> skip
        fi;
        next = 0
    ::  timeout -> break
    od
}

init
{
    run Adder(1);
    run Adder(2);
    timeout;
    assert(adders == 0 && work[1] == 0 && work[2] == 0)
}
