/** What the scenarios show by a virtual clock, in real time: the driver's own timers run. */

import { expect, onTestFinished, test } from 'vitest';
import { Verdict, type NetVerdictEvent } from '../../lib/index.js';
import { startWineComputer } from './wine_computer.js';

test('the pending time over, the timeout verdict is applied and told', async () => {
  const computer = await startWineComputer({
    pendingTimeoutMs: 300,
    timeoutVerdict: Verdict.PermanentBlock,
  });
  onTestFinished(() => computer.close());
  const flow = computer.network.connect({
    processId: 1,
    protocol: 'tcp',
    remote: { address: '198.51.100.7', port: 443 },
  });
  const told: NetVerdictEvent[] = [];
  for await (const event of computer.device.events({ types: ['connection', 'timeout'] })) {
    told.push(event);
    if (event.type === 'timeout') break;
  }
  expect(await flow.outcome).toBe('blocked');
  expect(told).toMatchObject([
    { type: 'connection' },
    { type: 'timeout', id: told[0]?.type === 'connection' ? told[0].id : 0n },
  ]);
});
