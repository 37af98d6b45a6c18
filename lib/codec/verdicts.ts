/** What may be decided about a connection or packet, and the names of it. */

/**
 * The verdicts, with their values on the wire.
 *
 * A verdict without `Permanent` is for one packet (or one connection attempt); a permanent one, and every redirection,
 * holds for the rest of the connection, and the driver asks no more about it.
 *
 * @example
 * ```ts
 * device.setVerdict(event.id, event.remotePort === 23 ? Verdict.PermanentBlock : Verdict.PermanentAccept);
 * ```
 */
export const Verdict = {
  /** Not known yet. */
  Undecided: 0,
  /** Nobody can tell: refused for good. */
  Undeterminable: 1,
  /** Lets this packet through. */
  Accept: 2,
  /** Lets the connection through. */
  PermanentAccept: 3,
  /** Refuses this packet, and says so to whoever sends it. */
  Block: 4,
  /** Refuses the connection, and says so to whoever wants it. */
  PermanentBlock: 5,
  /** Discards this packet without a word. */
  Drop: 6,
  /** Discards the connection without a word. */
  PermanentDrop: 7,
  /** Sends the connection to the resolver of this computer. */
  RedirectNameServer: 8,
  /** Sends the connection to the tunnel port of this computer. */
  RedirectTunnel: 9,
  /** Deciding failed: refused for good. */
  Failed: 10,
  /** Sends the connection to the split tunnel port of this computer. */
  RedirectSplitTunnel: 11,
} as const;

/** One of the values of `Verdict`. */
export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** Where a redirected connection goes: to the resolver, or to one of the two tunnel ports of this computer. */
export type RedirectTarget = 'nameserver' | 'tunnel' | 'split-tunnel';

/** The names by which a policy gives a verdict. */
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
