/** Why the driver loses records, and what helps. */

/**
 * What was exhausted when records were lost.
 *
 * - `event-queue-full`: the event queue (`maxQueuedBytes`).
 * - `held-packet-limit`: the table of held packets (`maxHeldPackets`).
 * - `out-of-memory`: the memory of the kernel.
 * - `connection-limit`: the table of connections (`maxConnections`).
 * - `owner-share`: what one program or one remote network may hold, while others need the room.
 * - `fragment-limit`: the table of IP fragments.
 * - `unknown`: something that this version does not know.
 *
 * `LostEvent.cure` says what helps.
 */
export type LossReason =
  | 'event-queue-full'
  | 'held-packet-limit'
  | 'out-of-memory'
  | 'connection-limit'
  | 'owner-share'
  | 'fragment-limit'
  | 'unknown';

interface Loss {
  readonly reason: LossReason;
  /** What helps, in a sentence. */
  readonly cure: string;
}

const UNKNOWN: Loss = {
  reason: 'unknown',
  cure: 'Update the package netverdict, which is older than the driver.',
};

/** In the order of their numbers on the wire, from 1. */
const LOSSES: readonly Loss[] = [
  {
    reason: 'event-queue-full',
    cure: 'Read the events faster, best with batches(), or raise maxQueuedBytes.',
  },
  {
    reason: 'held-packet-limit',
    cure: 'Decide faster, give permanent verdicts, or raise maxHeldPackets.',
  },
  {
    reason: 'out-of-memory',
    cure: 'End programs that need much memory, or lower maxQueuedBytes and maxHeldPackets.',
  },
  {
    reason: 'connection-limit',
    cure: 'Raise maxConnections, or end the program that opens so many connections.',
  },
  {
    reason: 'owner-share',
    cure: 'Find out why one program or remote network opens so many connections at once, and end or block it.',
  },
  {
    reason: 'fragment-limit',
    cure: 'Find out who sends so many IP fragments, and block that sender in front of this computer.',
  },
];

/** @internal The loss with this number on the wire. */
export function lossOf(number: number): Loss {
  return LOSSES[number - 1] ?? UNKNOWN;
}

/** @internal What helps against losses for this reason, in a sentence. */
export function cureOf(reason: LossReason): string {
  return (LOSSES.find((loss) => loss.reason === reason) ?? UNKNOWN).cure;
}
