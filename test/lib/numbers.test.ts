/** The numbers of others: IANA's protocols, and the verdicts of the wire. Each is written here as its page has it. */

import { describe, expect, it } from 'vitest';
import { Protocol, protocolName, protocolNumber } from '../../lib/codec/protocols.js';
import { REDIRECT_VERDICTS, Verdict } from '../../lib/codec/verdicts.js';
import { Policy } from '../../lib/policy/policy.js';

describe('a protocol', () => {
  // IANA, "Assigned Internet Protocol Numbers": HOPOPT, ICMP, IGMP, IPv4, TCP, UDP, DCCP, IPv6, GRE, ESP, AH,
  // IPv6-ICMP, EIGRP, OSPFIGP, PIM, VRRP, SCTP, UDPLite.
  it.each([
    [0, 'hopopt'],
    [1, 'icmp'],
    [2, 'igmp'],
    [4, 'ipv4'],
    [6, 'tcp'],
    [17, 'udp'],
    [33, 'dccp'],
    [41, 'ipv6'],
    [47, 'gre'],
    [50, 'esp'],
    [51, 'ah'],
    [58, 'icmpv6'],
    [88, 'eigrp'],
    [89, 'ospf'],
    [103, 'pim'],
    [112, 'vrrp'],
    [132, 'sctp'],
    [136, 'udplite'],
  ])('%i is %s', (number, name) => {
    expect(protocolName(number)).toBe(name);
    expect(protocolNumber(name)).toBe(number);
    expect(protocolNumber(name.toUpperCase())).toBe(number);
  });

  it.each([3, 5, 59, 143, 255])('%i has no name, and is its number as text', (number) => {
    expect(protocolName(number)).toBe(String(number));
    expect(protocolNumber(String(number))).toBeUndefined();
  });

  it('of the simulated network has IANA’s number', () => {
    expect(Protocol).toEqual({ icmp: 1, igmp: 2, tcp: 6, udp: 17, icmpv6: 58 });
  });
});

describe('a verdict', () => {
  it('has its number on the wire', () => {
    expect(Verdict).toEqual({
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
    });
  });

  it.each([
    ['accept', 2],
    ['permanent-accept', 3],
    ['block', 4],
    ['permanent-block', 5],
    ['drop', 6],
    ['permanent-drop', 7],
    ['redirect-nameserver', 8],
    ['redirect-tunnel', 9],
    ['redirect-split-tunnel', 11],
  ] as const)('of a policy, %s, has the number %i', (name, number) => {
    expect(Policy.parse({ default: name }).defaultVerdict).toBe(number);
  });

  it('redirects to its target', () => {
    expect(REDIRECT_VERDICTS).toEqual({ nameserver: 8, tunnel: 9, 'split-tunnel': 11 });
  });
});
