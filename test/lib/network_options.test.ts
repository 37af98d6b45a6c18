import { describe, expect, it } from 'vitest';
import { check } from '../../lib/base/checks.js';
import {
  arriveSchema,
  connectSchema,
  listenSchema,
  loadSchema,
  replaySchema,
} from '../../lib/simulator/network_options.js';

describe('the options of the simulated network', () => {
  it('have the documented defaults', () => {
    expect(check(loadSchema, { connections: 1 }, 'load()')).toEqual({
      connections: 1,
      inFlight: 64,
      protocol: 'tcp',
      ipVersion: 4,
      packetsPerConnection: 0,
      payloadLength: 0,
    });
    expect(check(replaySchema, {}, 'replay()')).toMatchObject({ local: [], speed: 0 });
    expect(check(arriveSchema, {}, 'arrive()')).toEqual({ link: 0 });
    const socket = { processId: 1, protocol: 'tcp' };
    const listener = { ...socket, local: { port: 1 } };
    expect(check(listenSchema, listener, 'listen()')).toMatchObject({ ipVersion: 4, groups: [] });
    const flow = { ...socket, remote: { address: '192.0.2.1', port: 1 } };
    expect(check(connectSchema, flow, 'connect()')).toMatchObject({
      local: {},
      loopback: false,
      link: 0,
    });
  });

  it.each([
    ['inFlight', 1, 1_048_576],
    ['payloadLength', 0, 65_535],
  ])('have the documented bounds: %s of load()', (name, least, greatest) => {
    const load = (value: number) => check(loadSchema, { connections: 1, [name]: value }, 'load()');
    expect(load(least)).toMatchObject({ [name]: least });
    expect(load(greatest)).toMatchObject({ [name]: greatest });
    expect(() => load(least - 1)).toThrow(name);
    expect(() => load(greatest + 1)).toThrow(name);
  });
});
