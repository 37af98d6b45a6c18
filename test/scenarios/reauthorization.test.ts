/** Flows that the stack authorizes again, as after any change of its filters. */

import { describe, expect, test } from 'vitest';
import { Verdict, type Flow } from '../../lib/index.js';
import { Simulated } from './simulated.js';

const families = [
  { family: 'IPv4', computer: '192.0.2.10', stranger: '198.51.100.7' },
  { family: 'IPv6', computer: '2001:db8::10', stranger: '2001:db8:ffff::7' },
] as const;

const cases = families.flatMap((addresses) =>
  (['tcp', 'udp'] as const).flatMap((protocol) =>
    (['outbound', 'inbound'] as const).map((direction) => ({ ...addresses, protocol, direction })),
  ),
);

describe.each(cases)(
  'an $direction $protocol flow over $family',
  ({ computer, stranger, protocol, direction }) => {
    const bytes = Uint8Array.of(1, 2, 3);

    /** A flow with a permanent Accept. */
    async function accepted(): Promise<{ simulated: Simulated; flow: Flow }> {
      const simulated = await Simulated.start();
      const [near, far] = [
        { address: computer, port: 50_050 },
        { address: stranger, port: 443 },
      ];
      const flow =
        direction === 'outbound'
          ? simulated.network.connect({ processId: 7, protocol, local: near, remote: far })
          : simulated.network.accept({ processId: 7, protocol, local: near, remote: far });
      (await simulated.question()).accept({ permanent: true });
      expect(await flow.outcome).toBe('permitted');
      return { simulated, flow };
    }

    test('continues without a question', async () => {
      const { simulated, flow } = await accepted();
      simulated.network.reauthorize();
      expect(await flow.send(bytes)).toBe('permitted');
      simulated.network.reauthorize();
      expect(await flow.receive(bytes)).toBe('permitted');
      expect(await simulated.untaken('connection')).toEqual([]);
    });

    test('is blocked when its verdict changed to PermanentBlock', async () => {
      const { simulated, flow } = await accepted();
      simulated.device.updateVerdict(
        {
          protocol: protocol === 'tcp' ? 6 : 17,
          localAddress: computer,
          localPort: 50_050,
          remoteAddress: stranger,
          remotePort: 443,
        },
        Verdict.PermanentBlock,
      );
      simulated.network.reauthorize();
      expect(await flow.send(bytes)).not.toBe('permitted');
      expect(await flow.receive(bytes)).not.toBe('permitted');
      expect(await simulated.untaken('connection')).toEqual([]);
    });

    test('is asked about again when the client has cleared the cache', async () => {
      const { simulated, flow } = await accepted();
      simulated.device.clearCache();
      const outcome = flow.send(bytes);
      const question = await simulated.question();
      expect([question.localPort, question.remotePort]).toEqual([50_050, 443]);
      question.accept({ permanent: true });
      expect(await outcome).toBe('permitted');
      simulated.network.reauthorize();
      await expect.poll(() => flow.send(bytes)).toBe('permitted');
      expect(await simulated.untaken('connection')).toEqual([]);
    });
  },
);
