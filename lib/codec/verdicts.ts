/** The verdicts, and their names. */

/**
 * The verdicts, with their values on the wire.
 *
 * A verdict without `Permanent` holds for one packet or one connection attempt.
 * A permanent verdict, or a redirection, holds for the rest of the connection: its packets are no longer reported.
 *
 * @example
 * ```ts
 * device.setVerdict(event.id, event.remotePort === 23 ? Verdict.PermanentBlock : Verdict.PermanentAccept);
 * ```
 */
export const Verdict = {
  /** No verdict yet. */
  Undecided: 0,
  /** The verdict cannot be determined: blocks the connection. */
  Undeterminable: 1,
  /** Permits this packet. */
  Accept: 2,
  /** Permits the connection. */
  PermanentAccept: 3,
  /** Refuses this packet, with an error for its sender. */
  Block: 4,
  /** Refuses the connection, with an error for the end that opens it. */
  PermanentBlock: 5,
  /** Discards this packet silently. */
  Drop: 6,
  /** Discards the connection's packets silently. */
  PermanentDrop: 7,
  /** Redirects the connection to the resolver of this computer. */
  RedirectNameServer: 8,
  /** Redirects the connection to the tunnel port of this computer. */
  RedirectTunnel: 9,
  /** Deciding failed: blocks the connection. */
  Failed: 10,
  /** Redirects the connection to the split tunnel port of this computer. */
  RedirectSplitTunnel: 11,
} as const;

/** A value of {@link Verdict}. */
export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** The target of a redirection: the resolver, or one of the two tunnel ports of this computer. */
export type RedirectTarget = 'nameserver' | 'tunnel' | 'split-tunnel';

/** The names of verdicts in a policy. */
export type VerdictName =
  | 'accept'
  | 'permanent-accept'
  | 'block'
  | 'permanent-block'
  | 'drop'
  | 'permanent-drop'
  | 'redirect-nameserver'
  | 'redirect-tunnel'
  | 'redirect-split-tunnel';

/** @internal */
export const VERDICT_NAMES: Readonly<Record<VerdictName, Verdict>> = {
  accept: Verdict.Accept,
  'permanent-accept': Verdict.PermanentAccept,
  block: Verdict.Block,
  'permanent-block': Verdict.PermanentBlock,
  drop: Verdict.Drop,
  'permanent-drop': Verdict.PermanentDrop,
  'redirect-nameserver': Verdict.RedirectNameServer,
  'redirect-tunnel': Verdict.RedirectTunnel,
  'redirect-split-tunnel': Verdict.RedirectSplitTunnel,
};

/** @internal */
export const REDIRECT_VERDICTS: Readonly<Record<RedirectTarget, Verdict>> = {
  nameserver: Verdict.RedirectNameServer,
  tunnel: Verdict.RedirectTunnel,
  'split-tunnel': Verdict.RedirectSplitTunnel,
};

/** @internal */
export function isVerdict(value: unknown): value is Verdict {
  return (
    typeof value === 'number' &&
    Number.isInteger(value) &&
    value >= Verdict.Undecided &&
    value <= Verdict.RedirectSplitTunnel
  );
}
