// Runs the programs of the API fuzzer that its parent sends, one after the other, and answers with what went wrong.
import { Program } from './api_program.mjs';

let program;
for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, (error) => {
    program?.fail(new Error(`${event}: ${error?.stack ?? error}`));
  });
}
process.on('message', async (given) => {
  program = new Program();
  const problem = await program.run(given).then(
    () => undefined,
    (error) => `${error?.message ?? error}`,
  );
  process.send({ problem, verdicts: program.verdicts });
});
