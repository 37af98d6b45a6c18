/*
 * kext/io_queue.c and kext/waiting_read.c: reads that wait in their own threads, and a pended read behind them.
 * Every read completes exactly once: by a record, a cancel, the detach, the shutdown or the end of its thread.
 * No read waits while the queue has a record for it, and the reads of one client are served in their order.
 * A pushed record is delivered once and in order, or still queued.
 * The wait of a thread that was woken ends when the thread looks, so Woken is never cleared.
 * No thread uses a WAITING_READ that is freed, or a queue that is gone.
 * A deliverer of pended reads may be a producer, a reader or the DPC. The model has a process for it.
 * `atomic` stands for the queue's lock.
 * Not modelled: failing allocations, losses, and the cancel of the pended read (io_queue.pml).
 *
 * TURN_KEPT breaks it: a read that ends without a record does not give its turn to the next read.
 * OUT_OF_ORDER breaks it: a read that is not the oldest takes a record.
 * TWO_DELIVERERS breaks it: a waiting read does not check Delivering.
 * READERS_FORGOTTEN breaks it: a deliverer that ends does not wake the waiting read that came meanwhile.
 * CANCEL_NOT_SEEN breaks it: a thread that looks does not check IRP.Cancel.
 * CANCEL_NOT_AWAITED breaks it: WaitingReadFree does not pass through the cancel spin lock.
 * STILL_LISTED breaks it: a detach wakes the waiting reads and leaves them on the list.
 * NOT_COUNTED breaks it: IoQueueUninitialize does not wait for Readers.
 */

#define EVENTS 2  /* records that are pushed */
#define READERS 2 /* waiting reads; the read after them is the pended one */
#define PENDED READERS

mtype = { detached, attached, shutting_down };
mtype = { success, user_apc }; /* how a wait ended */

/* IO_QUEUE */
mtype state = attached;
byte queue[EVENTS];
byte queued;
bool delivering;
byte generation;
byte list[READERS]; /* WaitingReads */
byte waiting;       /* length of the list */
bool pended;        /* Reads holds the pended read */
byte readers;
bool uninitializing;
bool idle;
bool gone;

/* WAITING_READs */
bool alive[READERS];
bool woken[READERS];
bool cut_off[READERS]; /* Detached */
bool event[READERS];   /* Wake, signalled */

/* IRPs and their threads */
bool routine[READERS];
bool cancelled[READERS]; /* IRP.Cancel */
bool dying[READERS];     /* the thread is terminated */
bool ready[READERS];     /* the queue counts the read's thread */
byte client[READERS];    /* the generation when the read came */
byte completions[READERS + 1];
bool cancel_lock;

byte users = 2 + READERS; /* the producer, and reads that have not come */
byte deliverers;
byte next_event = 1;
byte last_event;
byte pushed; /* records of this generation */
byte delivered;

inline Complete(read)
{
    completions[read]++;
    assert(completions[read] == 1)
}

/* WaitingReadWake */
inline Wake(read)
{
    assert(alive[read]);
    if
    :: !woken[read] -> woken[read] = true; event[read] = true
    :: else -> skip
    fi
}

#define HAS_WORK (queued > 0 || state == shutting_down)

inline BecomeDeliverer()
{
    if
    :: delivering || !HAS_WORK -> skip
    :: else ->
        if
        :: waiting > 0 -> Wake(list[0])
        :: waiting == 0 && pended -> delivering = true; deliverers++
        :: else -> skip
        fi
    fi
}

inline SignalIdle()
{
    idle = uninitializing && !delivering && readers == 0
}

inline Unlist(read)
{
    if
    :: waiting > 0 && list[0] == read -> list[0] = list[1]; list[1] = 0; waiting--
    :: waiting > 1 && list[1] == read -> list[1] = 0; waiting--
    :: else -> skip
    fi
}

/* IoQueueCommitDelivery */
inline Commit(record, mine)
{
    if
    :: record != 0 && generation == mine ->
        assert(queued > 0 && queue[0] == record && record > last_event);
        last_event = record;
        queued--;
        queue[0] = queue[1];
        queue[1] = 0;
        delivered++
    :: else -> skip
    fi
}

/* IoQueuePush */
proctype Producer()
{
    do
    :: atomic {
        next_event <= EVENTS ->
            assert(!gone);
            if
            :: state == attached ->
                queue[queued] = next_event;
                queued++;
                pushed++;
                BecomeDeliverer()
            :: else -> skip
            fi;
            next_event++;
            users = users - (next_event > EVENTS -> 1 : 0)
       }
    :: next_event > EVENTS -> break
    od
}

/* IoQueueRead and IoQueueAwaitRead of a base client */
proctype Reader(byte read)
{
    mtype waited = success;
    bool ended;
    bool took;
    byte record, mine;

    atomic { alive[read] = true; routine[read] = true } /* WaitingReadCreate */
    atomic { /* IoQueueAddWaitingRead */
        assert(!gone);
        if
        :: state != detached ->
            list[waiting] = read;
            waiting++;
            readers++;
            ready[read] = true;
            client[read] = generation
        :: else -> ended = true
        fi;
        users--
    }
    do
    :: ended -> break
    :: else ->
        atomic { /* IoQueueEndWait */
            assert(!gone);
            if
            :: cut_off[read] -> ended = true
#ifdef CANCEL_NOT_SEEN
            :: !cut_off[read] && waited != success ->
#else
            :: !cut_off[read] && (cancelled[read] || waited != success) ->
#endif
                Unlist(read);
                ended = true;
#ifndef TURN_KEPT
                BecomeDeliverer()
#endif
            :: else ->
                if
#ifdef OUT_OF_ORDER
                :: HAS_WORK && !delivering ->
#else
#ifdef TWO_DELIVERERS
                :: HAS_WORK && list[0] == read && waiting > 0 ->
#else
                :: HAS_WORK && list[0] == read && waiting > 0 && !delivering ->
#endif
#endif
                    assert(list[0] == read && client[read] == generation);
                    Unlist(read);
                    delivering = true;
                    took = true;
                    ended = true;
                    record = (queued > 0 -> queue[0] : 0);
                    mine = generation
                :: else -> assert(!woken[read])
                fi
            fi
        }
        if
        :: took ->
            atomic { /* IoQueueFinishDelivery */
                assert(!gone);
                Commit(record, mine);
                deliverers++;
                took = false;
                record = 0;
                mine = 0
            }
        :: !took && !ended ->
end:
            if /* KeWaitForSingleObject */
            :: event[read] -> atomic { event[read] = false; waited = success }
            :: dying[read] -> waited = user_apc
            fi
        :: else -> skip
        fi
    od;

    atomic { /* WaitingReadFree */
        ended = routine[read];
        routine[read] = false;
        waited = success;
        client[read] = 0
    }
#ifndef CANCEL_NOT_AWAITED
    if
    :: !ended -> !cancel_lock
    :: else -> skip
    fi;
#endif
    atomic {
        alive[read] = false;
        woken[read] = false;
        event[read] = false;
        cut_off[read] = false;
        ended = false
    }
    if
    :: ready[read] -> /* IoQueueLeave */
        atomic { assert(!gone); readers--; SignalIdle(); ready[read] = false }
    :: else -> skip
    fi;
    atomic { Complete(read) }
}

/* IoQueueRead of a client that has become extended */
proctype Pender()
{
    atomic {
        assert(!gone);
        if
        :: state != detached -> pended = true; BecomeDeliverer()
        :: else -> Complete(PENDED)
        fi;
        users--
    }
}

/* IoQueueServeReads */
active proctype Deliverer()
{
    byte record, mine;
    bool started;

end:
    atomic { deliverers > 0 -> deliverers-- }
    do
    ::
        atomic { /* IoQueueStartDelivery */
            assert(!gone);
            started = false;
            record = 0;
            if
            :: !HAS_WORK -> skip
            :: HAS_WORK && waiting > 0 ->
#ifndef READERS_FORGOTTEN
                Wake(list[0])
#else
                skip
#endif
            :: HAS_WORK && waiting == 0 && pended ->
                pended = false;
                started = true;
                record = (queued > 0 -> queue[0] : 0);
                mine = generation
            :: else -> skip
            fi;
            if
            :: !started -> delivering = false; SignalIdle() /* IoQueueEndDelivering */
            :: else -> skip
            fi
        }
        if
        :: !started -> break
        :: started ->
            atomic { assert(!gone); Commit(record, mine) }
            atomic { Complete(PENDED) }
        fi
    od;
    atomic { record = 0; mine = 0 }
    goto end
}

/* IoCancelIrp of a waiting read, and WaitingReadCancel */
proctype Cancel(byte read)
{
    bool had;

    atomic { /* a completed IRP cannot be cancelled */
        !cancel_lock ->
        if
        :: completions[read] == 0 ->
            cancel_lock = true;
            cancelled[read] = true;
            had = routine[read];
            routine[read] = false
        :: else -> skip
        fi
    }
    if
    :: had -> atomic { assert(alive[read]); event[read] = true }
    :: else -> skip
    fi;
    had = false;
    cancel_lock = false
}

inline Detach()
{
    atomic {
        assert(!gone);
        state = detached;
        do /* IoQueueDetachWaitingReads */
        :: n < waiting ->
            Wake(list[n]);
#ifndef STILL_LISTED
            cut_off[list[n]] = true;
#endif
            n++
        :: else -> break
        od;
#ifndef STILL_LISTED
        waiting = 0;
        list[0] = 0;
        list[1] = 0;
#endif
        if
        :: pended -> pended = false; Complete(PENDED)
        :: else -> skip
        fi;
        generation++; /* IoQueueDiscard */
        queued = 0;
        queue[0] = 0;
        queue[1] = 0;
        pushed = 0;
        delivered = 0;
        n = 0
    }
}

/* The operations of the device for its clients. It may stop after any of them. */
proctype Device()
{
    byte n;
    bool busy;

    if
    :: true -> atomic { state = shutting_down; BecomeDeliverer() } /* IoQueueShutdown */
    :: true -> skip
    fi;
    if
    :: true -> goto stop
    :: true -> Detach()
    fi;
    if
    :: true -> skip
    :: true -> state = attached; goto stop
    fi;

    /* IoQueueUninitialize: no caller comes any more, but waiting reads may not have left. */
    users == 0;
    atomic {
        uninitializing = true;
#ifdef NOT_COUNTED
        busy = delivering
#else
        busy = delivering || readers > 0
#endif
    }
    if
    :: busy -> idle
    :: else -> skip
    fi;
    gone = true;
stop:
}

init
{
    byte n;

    atomic {
        run Producer();
        run Device();
        if
        :: run Pender()
        :: completions[PENDED] = 1; users-- /* no such read comes */
        fi;
        for (n : 0 .. READERS - 1) {
            run Reader(n)
        }
        if
        :: run Cancel(0)
        :: dying[0] = true
        :: skip
        fi
    }
    timeout; /* no process can take a step */
    assert(!delivering && !cancel_lock);
    for (n : 0 .. READERS) {
        assert(completions[n] == 1 || (state == attached && queued == 0))
    }
    for (n : 0 .. READERS - 1) {
        assert(completions[n] == 1 || (!cancelled[n] && !dying[n]))
    }
    assert(pushed == delivered + queued)
}
