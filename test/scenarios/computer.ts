/** Where the scenarios run: on a simulated computer in this process, or on the one that Wine plays. */

import { createSimulator, type Simulator, type SimulatorOptions } from '../../lib/index.js';

export async function startComputer(options: SimulatorOptions = {}): Promise<Simulator> {
  if (process.env['NETVERDICT_COMPUTER'] !== 'wine') return createSimulator(options);
  const { startWineComputer } = await import('../wine/wine_computer.js');
  return startWineComputer(options);
}
