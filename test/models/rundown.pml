/*
 * kext/rundown.c: many threads call RundownEnter and RundownLeave, and one calls RundownWait.
 * Before RundownWait the waiter forbids new entries, as SessionStopFiltering does with Mode.
 * No thread is inside when RundownWait returns, and it always returns.
 *
 * LOST_WAKE_UP breaks it: the event is cleared after the counter was read.
 */

#define USERS 3

byte inside;     /* RUNDOWN_SLOT.Inside */
bool waiting;    /* RUNDOWN.Waiting */
bool left;       /* RUNDOWN.Left, signalled */
bool forbidden;  /* checked by an entry, inside */
byte working;    /* users of the protected resource */

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
