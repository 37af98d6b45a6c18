/** The filter engine stops, is busy with another product's transaction, or loses the driver's session. */

import { expect, onTestFinished, test } from 'vitest';
import type { FilterEngine } from './filter_engine.js';
import { Status } from './filter_engine.js';
import { Simulated } from './simulated.js';

const remote = { address: '198.51.100.7', port: 443 };

/** Under Wine the driver outlives the test, so each test leaves the filter engine as it found it. */
async function start(restore: (engine: FilterEngine) => void) {
  const simulated = await Simulated.start();
  const layers = simulated.engine.filteredLayers;
  expect(layers).toBeGreaterThan(0);
  onTestFinished(async () => {
    restore(simulated.engine);
    await simulated.engine.filters(layers);
  });
  return { simulated, layers };
}

/** The driver filters a little after the last filter is there. */
async function filtering({ device }: Simulated): Promise<void> {
  await expect.poll(async () => (await device.getStatistics()).engineState).toBe('filtering');
}

test('connections are not asked about while the service is stopped, and again once it runs', async () => {
  const { simulated } = await start((engine) => {
    engine.startService();
  });
  const connect = (processId: number) =>
    simulated.network.connect({ processId, protocol: 'tcp', remote });

  simulated.engine.stopService();
  await simulated.engine.filters(0);
  expect(await connect(1).outcome).toBe('permitted');

  simulated.engine.startService();
  await filtering(simulated);
  const flow = connect(2);
  const question = await simulated.question();
  expect(question.processId).toBe(2);
  question.accept({ permanent: true });
  expect(await flow.outcome).toBe('permitted');
});

test("a verdict takes effect while another product's transaction is open", async () => {
  const { simulated } = await start((engine) => {
    engine.endForeignTransaction();
  });

  simulated.engine.beginForeignTransaction();
  const flow = simulated.network.connect({ processId: 3, protocol: 'tcp', remote });
  (await simulated.question()).block({ permanent: true });
  expect(await flow.outcome).toBe('blocked');
});

test('the filters stay while the filter engine refuses every call', async () => {
  const { simulated, layers } = await start((engine) => {
    engine.refuse(Status.success);
  });

  simulated.engine.refuse(Status.accessDenied);
  const flow = simulated.network.connect({ processId: 4, protocol: 'tcp', remote });
  (await simulated.question()).block({ permanent: true });
  expect(await flow.outcome).toBe('blocked');
  expect(simulated.engine.filteredLayers).toBe(layers);
});

test('the filters return after the session was lost without a stop', async () => {
  const { simulated, layers } = await start(() => undefined);

  simulated.engine.loseSessions();
  await filtering(simulated);
  expect(simulated.engine.filteredLayers).toBe(layers);
  const flow = simulated.network.connect({ processId: 5, protocol: 'tcp', remote });
  (await simulated.question()).block({ permanent: true });
  expect(await flow.outcome).toBe('blocked');
});
