/** The computer of the scenarios: a simulated one in this process, or the one that Wine provides. */

import { createSimulator, type Simulator, type SimulatorOptions } from '../../lib/index.js';

export async function startComputer(options: SimulatorOptions = {}): Promise<Simulator> {
  if (process.env['NETVERDICT_COMPUTER'] !== 'wine') return createSimulator(options);
  const { startWineComputer } = await import('../wine/wine_computer.js');
  return startWineComputer(options);
}
