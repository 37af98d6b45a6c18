/*
 * kext/io_queue.c: records that wait for reads, and reads that wait for records.
 * Every read completes exactly once, at the latest by its cancellation, the shutdown or the detach.
 * No read waits while the queue has a record for it.
 * A pushed record is delivered once and in order, or counted as lost and reported, or still queued.
 * Memory in use is never freed.
 * IoQueueDeliver runs in the thread that became the deliverer, or in the DPC that continues for it.
 * The model has a separate process for it.
 * Not modelled: failing allocations, more than one reason of loss, and records of different lengths.
 * Here a read takes one record, and one record that leaves makes room for a loss record.
 *
 * CANCEL_NOT_CLEARED breaks it: IoQueueTakeRead takes a read without clearing its cancel routine.
 * CANCEL_NOT_SEEN breaks it: a read is pended without a check whether it was cancelled before.
 * PENDED_DETACHED breaks it: a read is pended in every state.
 * TWO_DELIVERERS breaks it: IoQueueBecomeDeliverer does not check Delivering.
 * LOST_WAKE_UP breaks it: the deliverer releases the lock between its last check of the queue and IoQueueEndDelivering.
 * NOBODY_DELIVERS breaks it: a read that arrives cancelled makes its caller the deliverer.
 * That caller only completes the read.
 * UNCOUNTED_LOSS breaks it: a full queue drops the record without counting it.
 * UNREPORTED_LOSS breaks it: a drained queue does not report its losses.
 * TAKEN_LATE breaks it: the deliverer takes its record off the queue only after it has copied it.
 * NO_GENERATION breaks it: what a deliverer took before a detach counts as delivered to the next client.
 * NO_LAST_LOCK breaks it: IoQueueUninitialize does not take the lock after the wait.
 */

#define EVENTS 3 /* events that are pushed */
#define READS 2
#define SLOTS 2 /* IO_QUEUE.MaxBytes, in records */
#define LOSS 16 /* a record of LOSS + n reports n losses; smaller numbers are events */

#ifdef TWO_DELIVERERS
#define DELIVERERS 2
#else
#define DELIVERERS 1
#endif

mtype = { detached, attached, shutting_down };

/* IO_QUEUE */
bool locked; /* held for several steps; elsewhere `atomic` stands for the lock */
mtype state = attached;
byte queue[SLOTS];
byte queued;
byte lost; /* LostTotal */
bool delivering;
byte generation;
byte list[READS]; /* Reads */
byte waiting;     /* length of the list */
bool uninitializing;
bool idle;
bool gone; /* IoQueueUninitialize has returned */

/* IRPs */
bool routine[READS];
bool cancelled[READS]; /* IRP.Cancel */
byte completions[READS];

byte users = 1 + READS; /* producer and readers that have not finished */
byte deliverers;        /* threads or DPCs that should start to deliver */
byte next_event = 1;
byte last_event; /* the last one that the client has read */
byte pushed;     /* records of this generation; their fate is counted below */
byte delivered;
byte reported;
bool freed[EVENTS + 1]; /* the memory of each event's record */

inline Acquire()
{
    atomic { !locked -> assert(!gone); locked = true }
}

inline Release()
{
    atomic { assert(!gone); locked = false }
}

inline Complete(read)
{
    atomic { completions[read]++; assert(completions[read] == 1) }
}

/* `delivers`: a caller that becomes the deliverer also delivers. */
inline BecomeDeliverer(delivers)
{
    if
#ifdef TWO_DELIVERERS
    :: waiting > 0 && (queued > 0 || state == shutting_down) ->
#else
    :: !delivering && waiting > 0 && (queued > 0 || state == shutting_down) ->
#endif
        delivering = true;
        deliverers = deliverers + (delivers -> 1 : 0)
    :: else -> skip
    fi
}

inline Append(record)
{
    queue[queued] = record;
    queued++
}

/* IoQueueAppendLosses */
inline ReportLosses()
{
    if
    :: lost > 0 && queued < SLOTS ->
        Append(LOSS + lost);
        lost = 0
    :: else -> skip
    fi
}

/* Takes the oldest record off the queue. */
inline TakeRecord()
{
    queued--;
    queue[0] = queue[1];
    queue[1] = 0
}

inline Remove(index)
{
    waiting--;
    for (i : index .. READS - 2) {
        list[i] = list[i + 1]
    }
    list[READS - 1] = 0
}

/* Takes the oldest read whose cancel routine it could clear; READS means none. */
inline TakeRead(read)
{
    read = READS;
    i = 0;
    do
    :: i == waiting -> break
#ifdef CANCEL_NOT_CLEARED
    :: i < waiting -> read = list[i]; Remove(i); break
#else
    :: i < waiting && routine[list[i]] -> read = list[i]; routine[read] = false; Remove(i); break
    :: i < waiting && !routine[list[i]] -> i++
#endif
    od;
    i = 0
}

/* IoQueuePushUnit */
proctype Producer()
{
    byte count;
    bool dropped;

    for (count : 1 .. EVENTS) {
        atomic { /* IoQueuePushOnce */
            !locked;
            assert(!gone);
            if
            :: state != attached -> skip
            :: state == attached && queued == SLOTS -> dropped = true
            :: else ->
                Append(next_event);
                next_event++;
                pushed++;
                BecomeDeliverer(true)
            fi
        }
        if
        :: !dropped -> skip
        :: dropped ->
            atomic { /* IoQueueReportLost */
                !locked;
                assert(!gone);
                dropped = false;
                if
                :: state != attached -> skip
                :: else ->
                    pushed++;
#ifndef UNCOUNTED_LOSS
                    lost++;
#endif
#ifndef UNREPORTED_LOSS
                    if
                    :: queued == 0 -> ReportLosses(); BecomeDeliverer(true)
                    :: else -> skip
                    fi
#endif
                fi
            }
        fi
    }
    users--
}

/* IoQueueRead */
proctype Reader(byte read)
{
    bool pended;

    Acquire();
    if
#ifndef PENDED_DETACHED
    :: state == detached -> skip
    :: state != detached ->
#else
    :: true ->
#endif
        routine[read] = true; /* IoQueuePendRead */
#ifdef CANCEL_NOT_SEEN
        pended = true;
#else
        if
        :: !cancelled[read] -> pended = true
        :: cancelled[read] -> atomic { pended = !routine[read]; routine[read] = false }
        fi;
#endif
        atomic {
            if
            :: pended -> list[waiting] = read; waiting++; BecomeDeliverer(true)
            :: else ->
#ifdef NOBODY_DELIVERS
                BecomeDeliverer(false)
#else
                skip
#endif
            fi
        }
    fi;
    Release();
    atomic {
        if
        :: !pended -> Complete(read)
        :: pended -> skip
        fi;
        users--
    }
}

/* IoCancelIrp of a read, which may come before IoQueueRead does; IoQueueCancelRead. */
proctype Cancel(byte read)
{
    byte i;
    bool had;

    atomic { /* a completed IRP cannot be cancelled */
        if
        :: completions[read] == 0 -> cancelled[read] = true
        :: else -> skip
        fi
    }
    atomic { had = cancelled[read] && routine[read]; routine[read] = routine[read] && !had }
    if
    :: !had -> skip
    :: had ->
        atomic {
            !locked;
            assert(!gone);
            i = 0;
            do
            :: i < waiting && list[i] == read -> Remove(i); break
            :: i < waiting && list[i] != read -> i++
            :: i == waiting -> break
            od;
            i = 0
        }
        Complete(read)
    fi
}

/* IoQueueDeliver */
active [DELIVERERS] proctype Deliverer()
{
    byte i, read, record, mine;

end:
    atomic { deliverers > 0 -> deliverers-- }
    do
    ::
        Acquire();
        atomic { /* IoQueueStartDelivery */
            read = READS;
            record = 0;
            if
            :: queued > 0 || state == shutting_down -> TakeRead(read)
            :: else -> skip
            fi;
            mine = generation;
            if
            :: read < READS && queued > 0 -> /* IoQueueAddUnits */
                record = queue[0];
#ifndef TAKEN_LATE
                TakeRecord()
#endif
            :: else -> skip
            fi
        }
        if
        :: read == READS ->
#ifdef LOST_WAKE_UP
            Release();
            Acquire();
#endif
            mine = 0;
            delivering = false; /* IoQueueEndDelivering */
            idle = uninitializing;
            Release();
            break
        :: else -> Release()
        fi;
        atomic { /* IoQueueCopyUnits */
            assert(record == 0 || record >= LOSS || !freed[record]);
            if
            :: record > 0 && record < LOSS -> freed[record] = true
            :: else -> skip
            fi
        }
        atomic { /* IoQueueEndDelivery */
            !locked;
            assert(!gone);
#ifdef TAKEN_LATE
            if
            :: record != 0 && queued > 0 -> TakeRecord()
            :: else -> skip
            fi;
#endif
            if
#ifdef NO_GENERATION
            :: record == 0 -> skip
#else
            :: record == 0 || generation != mine -> skip
#endif
            :: record >= LOSS && generation == mine -> reported = reported + record - LOSS
            :: else -> delivered++
            fi;
#ifndef UNREPORTED_LOSS
            ReportLosses()
#endif
        }
        atomic { /* IoQueueCompleteRead */
            if
            :: record > 0 && record < LOSS -> assert(record > last_event); last_event = record
            :: else -> skip
            fi;
            Complete(read);
            i = 0;
            record = 0;
            mine = 0
        }
    od;
    goto end
}

inline Detach()
{
    atomic { /* IoQueueTakeReads, IoQueueForget */
        !locked;
        state = detached;
        n = 0;
        do
        ::
            TakeRead(read);
            if
            :: read == READS -> break
            :: else -> taken[n] = read; n++
            fi
        od;
        generation++;
        lost = 0;
        pushed = 0;
        delivered = 0;
        reported = 0;
        i = 0
    }
    do /* IoQueueDiscard */
    ::
        atomic {
            !locked;
            if
            :: queued == 0 -> break
            :: queued > 0 && queue[0] < LOSS -> assert(!freed[queue[0]]); freed[queue[0]] = true; TakeRecord()
            :: queued > 0 && queue[0] >= LOSS -> TakeRecord()
            fi
        }
    od;
    for (i : 0 .. n - 1) {
        Complete(taken[i])
    }
}

/* The operations of the device for its clients. It may stop after any of them. */
proctype Device()
{
    byte i, n, read;
    byte taken[READS];

    if
    :: true -> atomic { !locked; state = shutting_down; BecomeDeliverer(true) } /* IoQueueShutdown */
    :: true -> skip
    fi;
    if
    :: true -> goto stop
    :: true -> Detach()
    fi;
    if
    :: true -> skip
    :: true ->
        atomic { !locked; state = attached }
        if
        :: true -> goto stop
        :: true -> Detach()
        fi
    fi;

    /* IoQueueUninitialize: no caller is left, and every IRP is completed. */
    users == 0 && completions[0] == 1 && completions[1] == 1;
    Acquire();
    uninitializing = true;
    n = delivering;
    Release();
    if
    :: n == 1 -> idle
    :: else -> skip
    fi;
#ifndef NO_LAST_LOCK
    Acquire();
    Release();
#endif
    gone = true;
stop:
}

init
{
    byte n;
    byte events;

    atomic {
        run Producer();
        for (n : 0 .. READS - 1) {
            run Reader(n);
            if
            :: run Cancel(n)
            :: skip
            fi
        }
        run Device()
    }
    timeout; /* no process can take a step */
    assert(!delivering && !locked);
    for (n : 0 .. READS - 1) {
        assert(completions[n] == 1 || (!cancelled[n] && state == attached && queued == 0 && lost == 0))
    }
    events = 0;
    for (n : 0 .. SLOTS - 1) {
        events = events + (queue[n] == 0 -> 0 : (queue[n] >= LOSS -> queue[n] - LOSS : 1))
    }
    assert(pushed == delivered + reported + lost + events)
}
