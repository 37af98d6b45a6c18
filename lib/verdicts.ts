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
  Undecided: 0,
  Undeterminable: 1,
  Accept: 2,
  PermanentAccept: 3,
  Block: 4,
  PermanentBlock: 5,
  Drop: 6,
  PermanentDrop: 7,
  RedirectNameServer: 8,
  RedirectTunnel: 9,
  Failed: 10,
  RedirectSplitTunnel: 11,
} as const;

/** One of the values of {@link (Verdict:variable)}. */
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
