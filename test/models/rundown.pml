/*
 * kext/rundown.c: RundownEnter and RundownLeave of many, RundownWait of one that has forbidden new entries before, as
 * StopFiltering does with Mode. Nobody is inside when RundownWait returns, and it always returns.
 *
 * LOST_WAKE_UP breaks it: the event is cleared after the counter was read.
 */

#define USERS 3

byte inside;     /* RUNDOWN_SLOT.Inside */
bool waiting;    /* RUNDOWN.Waiting */
bool left;       /* RUNDOWN.Left, signalled */
bool forbidden;  /* what an entry looks at, inside */
byte working;    /* users that do what the rundown protects */

active [USERS] proctype User()
{
    inside++; /* RundownEnter: interlocked */
    if
    :: forbidden -> skip
    :: else ->
        working++;
        working--
    fi;
    inside--; /* RundownLeave: interlocked */
    if
    :: waiting -> left = true
    :: else -> skip
    fi
}

active proctype Waiter()
{
    forbidden = true;
    waiting = true;
    do
    ::
#ifdef LOST_WAKE_UP
        if
        :: inside == 0 -> break
        :: else -> skip
        fi;
        left = false;
#else
        left = false;
        if
        :: inside == 0 -> break
        :: else -> skip
        fi;
#endif
        left /* KeWaitForSingleObject */
    od;
    waiting = false;
    assert(working == 0)
}
