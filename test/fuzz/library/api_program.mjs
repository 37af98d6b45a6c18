// Carries out a program of the API fuzzer: a list of calls of the public API, made in turn without waiting for results.
//
// It knows what each call may do, from the API's documentation. It throws for the first call that did something else.
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import {
  AlreadyDecidedError,
  BusyError,
  ClosedError,
  createSimulator,
  DeviceError,
  DriverShutdownError,
  InvalidArgumentError,
  NetVerdictError,
  Verdict,
} from '../../../dist/index.mjs';

/** How long a promise may take that nothing holds up any more. */
const PATIENCE_MS = 20_000;
/** How often what waits is decided, until nothing waits. */
const MOST_ROUNDS = 200;
/** The driver gives no such id. A device remembers ids by their low bits, so those must differ from given ids, too. */
const FIRST_UNKNOWN_ID = (1n << 62n) + 100_000n;
const HOSTS = { 4: '198.51.100.', 6: '2001:db8:ffff::' };
const LOCAL = { 4: '192.0.2.10', 6: '2001:db8::10' };
const PORTS = [53, 80, 443, 9999];
const SIZES = [0, 1, 500, 3000];
const REDIRECTIONS = ['nameserver', 'tunnel', 'split-tunnel'];
const METHODS = {
  [Verdict.Accept]: (event) => event.accept(),
  [Verdict.PermanentAccept]: (event) => event.accept({ permanent: true }),
  [Verdict.Block]: (event) => event.block({ permanent: false }),
  [Verdict.PermanentBlock]: (event) => event.block({ permanent: true }),
  [Verdict.Drop]: (event) => event.drop(),
  [Verdict.PermanentDrop]: (event) => event.drop({ permanent: true }),
  [Verdict.RedirectNameServer]: (event) => event.redirect(REDIRECTIONS[0]),
  [Verdict.RedirectTunnel]: (event) => event.redirect(REDIRECTIONS[1], { permanent: true }),
  [Verdict.RedirectSplitTunnel]: (event) => event.redirect(REDIRECTIONS[2]),
};

const at = (list, index) => list[index % list.length];
const bytesOf = (size) => new Uint8Array(at(SIZES, size)).fill(0x5a);

/** Rejects if the promise does not settle in time. */
async function within(promise, what) {
  const stop = new AbortController();
  const late = pause(PATIENCE_MS, undefined, { signal: stop.signal }).then(
    () => {
      throw new Error(`${what} does not settle.`);
    },
    () => undefined,
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    stop.abort();
  }
}

async function waitFor(condition, problem) {
  for (const end = performance.now() + PATIENCE_MS; !condition(); await pause(1)) {
    if (performance.now() > end) throw new Error(problem());
  }
}

/** What the ids and the ends of connections promise, from one client of a computer to the next. */
class Stream {
  #ids = new Set();
  #alive = new Set();

  take(event) {
    if (event.type === 'protocol-error') throw new Error(`the stream broke: ${event.error}`);
    if (event.type === 'connection') {
      if (event.id === 0n || this.#ids.has(event.id)) throw new Error(`id ${event.id} came twice`);
      this.#ids.add(event.id);
      this.#alive.add(keyOf(event));
    }
    if (event.type === 'connection-end') {
      const hasPorts = event.localPort !== 0 || event.remotePort !== 0;
      const key = keyOf(event);
      if (!(hasPorts ? this.#alive.delete(key) : this.#alive.has(key)))
        throw new Error(`the end of ${key} came without its connection, or twice`);
    }
  }
}

const keyOf = ({ protocol, localAddress, localPort, remoteAddress, remotePort }) =>
  `${protocol} ${localAddress} ${localPort} ${remoteAddress} ${remotePort}`;

/** A client of the driver, and what was done with it. */
class Client {
  readers = [];
  decided = new Set();
  hasShutDown = false;
  reportedLost = 0n;

  constructor(device, stop) {
    this.device = device;
    this.stop = stop;
    this.lostBefore = device.getStatistics().then(
      ({ eventsLost }) => eventsLost,
      () => undefined,
    );
  }

  /** Whether a call may fail with this error now. */
  mayFail(error, isShort) {
    if (this.device.closed && (error instanceof ClosedError || error === this.stop?.reason))
      return true;
    if (this.hasShutDown && error instanceof DriverShutdownError) return true;
    return isShort && (error instanceof DeviceError || error instanceof DriverShutdownError);
  }
}

/** An iterator over a client's events, and what it gave. */
class Reader {
  events = [];
  hasBegun = false;
  hasEnded = false;
  isPulled = false;

  constructor(iterator, { types, stop }) {
    this.iterator = iterator;
    this.types = types;
    this.stop = stop;
  }
}

/** A simulated computer, and what is known of it. */
class Computer {
  stream = new Stream();
  flows = [];
  listeners = [];
  questions = [];
  ends = [];
  isClosed = false;
  /** Whether calls of the driver may fail for lack of memory. */
  isShort = false;

  constructor(simulator, client) {
    this.simulator = simulator;
    this.network = simulator.network;
    this.client = client;
  }
}

export class Program {
  /** How many verdicts on questions a device took. */
  verdicts = 0;
  #computer;
  #pending = new Map();
  #stops = [];
  #problem;
  #options;
  #nextTask = 0;

  /** Rejects with the first broken promise of the API. */
  async run({ options, steps, settles }) {
    this.#options = options;
    await this.#start();
    for (const [index, step] of steps.entries()) {
      try {
        await this.#step(step);
        this.#throwProblem();
      } catch (error) {
        const place = `step ${index}, ${JSON.stringify(step)}`;
        throw new Error(`${place}: ${error?.stack ?? error}`, { cause: error });
      }
    }
    if (settles) await this.#settle();
    await this.#end();
    this.#throwProblem();
  }

  /** Keeps the first problem of a promise that nobody awaits. */
  fail(problem) {
    this.#problem ??= problem;
  }

  #throwProblem() {
    if (this.#problem !== undefined) throw this.#problem;
  }

  async #start() {
    const simulator = await createSimulator(this.#options);
    const client = new Client(simulator.device, undefined);
    this.#computer = new Computer(simulator, client);
    this.#record(client);
  }

  /** The first iterator that is read sees all events of a client: this one begins before all others. */
  #record(client) {
    client.readers.push(new Reader(client.device.events(), {}));
  }

  async #step({ do: name, ...given }) {
    const result = this[name](given);
    if (result !== undefined) await result;
  }

  /** Calls, and fails unless the error is one that the call may throw. Returns whether it threw. */
  #call(what, work, mayFail) {
    try {
      work();
      return undefined;
    } catch (error) {
      this.#check(error, what, mayFail);
      return error;
    }
  }

  #check(error, what, mayFail) {
    const isKnown =
      !(error instanceof NetVerdictError) || /^ERR_NETVERDICT_[A-Z_]+$/.test(error.code);
    if (isKnown && mayFail(error)) return;
    this.fail(new Error(`${what} failed: ${error?.stack ?? error}`));
  }

  /** Follows a promise until it settles, which must happen before the program ends. */
  #follow(what, promise, mayFail) {
    const task = this.#nextTask++;
    const settled = Promise.resolve(promise).then(
      () => undefined,
      (error) => {
        this.#check(error, what, mayFail);
      },
    );
    this.#pending.set(task, { what, settled });
    void settled.then(() => this.#pending.delete(task));
  }

  #mayFailClosed(computer) {
    return (error) => computer.isClosed && error instanceof ClosedError;
  }

  #mayFailFor(client) {
    const computer = this.#computer;
    return (error) => client.mayFail(error, computer.isShort);
  }

  // ---- The network

  connect({ v6, host, port, process, protocol, payload, loopback, link }) {
    const version = v6 ? 6 : 4;
    const hasPorts = protocol === 'tcp' || protocol === 'udp';
    const address = loopback ? LOCAL[version] : `${HOSTS[version]}${1 + host}`;
    this.#open('connect()', (network) =>
      network.connect({
        processId: 100 + process,
        protocol,
        payload: bytesOf(payload),
        loopback,
        link,
        remote: { address, ...(hasPorts ? { port: at(PORTS, port) } : {}) },
      }),
    );
  }

  accept({ v6, host, port, process, protocol, payload, link }) {
    const version = v6 ? 6 : 4;
    const hasPorts = protocol === 'tcp' || protocol === 'udp';
    this.#open('accept()', (network) =>
      network.accept({
        processId: 100 + process,
        protocol,
        payload: bytesOf(payload),
        link,
        local: { address: LOCAL[version], ...(hasPorts ? { port: at(PORTS, port) } : {}) },
        remote: { address: `${HOSTS[version]}${1 + host}` },
      }),
    );
  }

  #open(what, make) {
    const computer = this.#computer;
    this.#call(
      what,
      () => {
        const flow = make(computer.network);
        computer.flows.push(flow);
        this.#follow(`the outcome of ${what}`, flow.outcome, () => false);
      },
      this.#mayFailClosed(computer),
    );
  }

  listen({ v6, port, protocol, process }) {
    const computer = this.#computer;
    this.#call(
      'listen()',
      () => {
        const local = { port: at(PORTS, port) };
        const options = { processId: 100 + process, protocol, local, ipVersion: v6 ? 6 : 4 };
        computer.listeners.push(computer.network.listen(options));
      },
      this.#mayFailClosed(computer),
    );
  }

  send({ flow, payload, back }) {
    const computer = this.#computer;
    if (computer.flows.length === 0) return;
    const chosen = at(computer.flows, flow);
    const sent = back ? chosen.receive(bytesOf(payload)) : chosen.send(bytesOf(payload));
    this.#follow('send() or receive()', sent, this.#mayFailClosed(computer));
  }

  closeFlow({ flow, listener }) {
    const { flows, listeners } = this.#computer;
    const sockets = listener ? listeners : flows;
    if (sockets.length > 0)
      this.#call(
        'close() of a socket',
        () => at(sockets, flow).close(),
        () => false,
      );
  }

  packet({ bytes, way, link }) {
    const computer = this.#computer;
    const { network } = computer;
    const packet = Uint8Array.from(bytes);
    const ways = {
      arrive: () => network.arrive(packet, { link }),
      forward: () => network.forward(packet),
      outbound: () => network.packet(packet, 'outbound'),
      inbound: () => network.packet(packet, 'inbound'),
    };
    this.#follow(way, ways[way](), this.#mayFailClosed(computer));
  }

  load({ connections, protocol }) {
    const computer = this.#computer;
    const loaded = computer.network.load({ connections, protocol, packetsPerConnection: 1 });
    this.#follow('load()', loaded, this.#mayFailClosed(computer));
  }

  disturb({ what }) {
    const computer = this.#computer;
    const { network } = computer;
    const calls = {
      reauthorize: () => network.reauthorize(),
      counters: () => network.counters(),
      poolBytes: () => network.poolBytes(),
      wire: () => network.onWire(() => undefined),
      noWire: () => network.onWire(null),
    };
    this.#call(what, calls[what], this.#mayFailClosed(computer));
  }

  faults({ oneIn }) {
    const computer = this.#computer;
    if (oneIn > 0) computer.isShort = true;
    this.#call(
      'injectFaults()',
      () => computer.network.injectFaults(oneIn),
      this.#mayFailClosed(computer),
    );
  }

  advance({ milliseconds }) {
    const computer = this.#computer;
    const isReal = this.#options.clock !== 'virtual';
    this.#call(
      'advance()',
      () => computer.simulator.clock.advance(milliseconds),
      (error) =>
        (isReal && error instanceof InvalidArgumentError) ||
        (computer.isClosed && error instanceof ClosedError),
    );
  }

  // ---- Reading

  read({ types, batches, signal }) {
    const { client } = this.#computer;
    const stop = signal ? this.#newStop() : undefined;
    const options = { ...(stop === undefined ? {} : { signal: stop.signal }) };
    const { device } = client;
    const iterator = batches
      ? device.batches(options)
      : device.events({ ...options, ...(types.length > 0 ? { types } : {}) });
    client.readers.push(
      new Reader(iterator, { types: batches || types.length === 0 ? undefined : types, stop }),
    );
  }

  watch({ intervalMs, signal }) {
    const { client } = this.#computer;
    const stop = signal ? this.#newStop() : undefined;
    const options = { intervalMs, ...(stop === undefined ? {} : { signal: stop.signal }) };
    const iterator = client.device.watchBandwidth(options);
    const mayFail = this.#mayFailFor(client);
    const isEnough = (error) =>
      error instanceof BusyError ||
      (stop?.signal.aborted && error === stop.signal.reason) ||
      mayFail(error);
    const twice = iterator.next().then(() => iterator.return());
    this.#follow('watchBandwidth()', twice, isEnough);
  }

  #newStop() {
    const stop = new AbortController();
    this.#stops.push(stop);
    return stop;
  }

  abort({ which, reason }) {
    if (this.#stops.length === 0) return;
    const stop = at(this.#stops, which);
    if (reason) stop.abort(new Error('the program aborts'));
    else stop.abort();
  }

  next({ reader, calls }) {
    const computer = this.#computer;
    const { client } = computer;
    const [recorder] = client.readers;
    if (!recorder.hasBegun) this.#pull(computer, client, recorder);
    const chosen = at(client.readers, reader);
    for (let call = 0; call < calls; call++) this.#pull(computer, client, chosen);
  }

  #pull(computer, client, reader) {
    reader.hasBegun = true;
    const mayFail = this.#mayFailFor(client);
    const read = reader.iterator.next().then(({ value, done }) => {
      if (done) reader.hasEnded = true;
      else this.#take(computer, client, reader, value);
    });
    this.#follow('next()', read, (error) => {
      reader.hasEnded = true;
      return (reader.stop?.signal.aborted && error === reader.stop.signal.reason) || mayFail(error);
    });
  }

  #take(computer, client, reader, value) {
    for (const event of Array.isArray(value) ? value : [value]) {
      if (reader.types?.includes(event.type) === false)
        throw new Error(`an iterator over ${reader.types} gave a ${event.type}`);
      reader.events.push(event);
      if (reader !== client.readers[0]) continue;
      JSON.stringify(event);
      computer.stream.take(event);
      if (event.type === 'lost') client.reportedLost += event.count;
      if (event.type === 'connection') computer.questions.push({ event, client });
      if (event.type === 'connection-end') computer.ends.push(event);
    }
  }

  leave({ reader }) {
    const { readers } = this.#computer.client;
    const chosen = at(readers, reader);
    chosen.hasEnded = true;
    this.#follow('return()', chosen.iterator.return(), () => false);
  }

  // ---- Deciding

  decide({ question, verdict, way, count }) {
    const { questions } = this.#computer;
    if (questions.length === 0) return;
    const chosen = Array.from({ length: count }, (_, index) => at(questions, question + index));
    if (way === 'many') this.#decideMany(chosen, verdict);
    else for (const each of chosen) this.#decide(each, verdict, way);
  }

  /** A first verdict is taken, and any other is refused. */
  #decide({ event, client }, verdict, way) {
    const { device, decided } = client;
    const { id } = event;
    const method = way === 'event' ? METHODS[verdict] : undefined;
    const error = this.#call(
      'a verdict',
      () => (method === undefined ? device.setVerdict(id, verdict) : method(event)),
      (thrown) => isRefusal(client, id, thrown),
    );
    this.#expectRefusal(client, id, error);
    if (error === undefined) this.verdicts++;
    decided.add(id);
  }

  #expectRefusal(client, id, error) {
    if (error === undefined && (client.decided.has(id) || client.device.closed))
      throw new Error(`a verdict for ${id} was taken, and should have been refused`);
  }

  /** The verdicts before the first refused one are taken. */
  #decideMany(chosen, verdict) {
    const [{ client }] = chosen;
    const ids = chosen.filter((each) => each.client === client).map(({ event }) => event.id);
    const refused = ids.findIndex((id, at) => client.decided.has(id) || ids.indexOf(id) < at);
    const error = this.#call(
      'setVerdicts()',
      () => client.device.setVerdicts(ids.map((id) => [id, verdict])),
      (thrown) =>
        client.device.closed
          ? thrown instanceof ClosedError
          : refused >= 0 && thrown instanceof AlreadyDecidedError,
    );
    if (error === undefined && refused >= 0)
      throw new Error(`a second verdict for ${ids[refused]} was taken`);
    if (client.device.closed) return;
    const taken = refused < 0 ? ids : ids.slice(0, refused);
    for (const id of taken) client.decided.add(id);
    this.verdicts += taken.length;
  }

  /** A verdict on an id that nobody was asked about has no effect. */
  decideUnknown({ id, verdict }) {
    const { client } = this.#computer;
    const unknown = FIRST_UNKNOWN_ID + BigInt(id);
    const error = this.#call(
      'a verdict',
      () => client.device.setVerdict(unknown, verdict),
      (thrown) => isRefusal(client, unknown, thrown),
    );
    this.#expectRefusal(client, unknown, error);
    client.decided.add(unknown);
  }

  update({ which, verdict, ended }) {
    const { client, questions, ends } = this.#computer;
    const connections = ended ? ends : questions.map(({ event }) => event);
    if (connections.length === 0) return;
    const mayFail = this.#mayFailFor(client);
    const connection = at(connections, which);
    this.#command('updateVerdict()', client, mayFail, () =>
      client.device.updateVerdict(connection, verdict),
    );
  }

  // ---- Asking and commanding

  ask({ what }) {
    const { client } = this.#computer;
    const mayFail = this.#mayFailFor(client);
    const asked = client.device[what]();
    this.#follow(`${what}()`, asked, (error) => error instanceof BusyError || mayFail(error));
  }

  command({ what }) {
    const { client } = this.#computer;
    this.#command(`${what}()`, client, this.#mayFailFor(client), () => client.device[what]());
  }

  #command(what, client, mayFail, work) {
    const error = this.#call(what, work, mayFail);
    if (client.device.closed && !(error instanceof ClosedError))
      throw new Error(`${what} on a closed device did not fail with a ClosedError: ${error}`);
  }

  shutdown() {
    const { client } = this.#computer;
    client.hasShutDown = true;
    this.command({ what: 'shutdown' });
  }

  refer({ keeps }) {
    const { device } = this.#computer.client;
    this.#call(
      'ref() or unref()',
      () => (keeps ? device.ref() : device.unref()),
      () => false,
    );
  }

  // ---- Ends and beginnings

  async close({ waits }) {
    const computer = this.#computer;
    const { client } = computer;
    const closing = client.device.close();
    this.#follow('close()', closing, () => false);
    if (!waits) return;
    await within(closing, 'close()');
    await this.#expectNothingHeld(computer);
  }

  async open({ options, signal, waits }) {
    const computer = this.#computer;
    const stop = signal ? this.#newStop().signal : undefined;
    const opened = computer.simulator.open({ ...options, ...(signal ? { signal: stop } : {}) });
    const wasOpen = !computer.client.device.closed;
    const opening = opened.then((device) => {
      if (wasOpen && !computer.client.device.closed)
        throw new Error('open() succeeded beside an open device');
      computer.client = new Client(device, stop);
      this.#record(computer.client);
    });
    this.#follow('open()', opening, (error) => {
      if (error instanceof BusyError) return wasOpen || !computer.client.device.closed;
      if (stop?.aborted && error === stop.reason) return true;
      if (error instanceof ClosedError) return computer.isClosed;
      return computer.isShort && error instanceof DeviceError;
    });
    if (waits)
      await within(
        opening.catch(() => undefined),
        'open()',
      );
  }

  /** Ends the computer, and starts the next one. */
  async restart({ waits }) {
    const computer = this.#computer;
    computer.isClosed = true;
    const closing = computer.simulator.close();
    this.#follow('close() of the simulator', closing, () => false);
    if (waits) await within(closing, 'close() of the simulator');
    await this.#start();
  }

  /** Closes the computer, and goes on to use it. */
  end() {
    const computer = this.#computer;
    computer.isClosed = true;
    this.#follow('close() of the simulator', computer.simulator.close(), () => false);
  }

  gc() {
    globalThis.gc();
  }

  async turn({ turns, milliseconds }) {
    for (let turn = 0; turn < turns; turn++) await nextTurn();
    if (milliseconds > 0) await pause(milliseconds);
  }

  /** Arguments of wrong types and values are refused, whatever the state. */
  misuse({ what, value }) {
    const { client, network } = this.#computer;
    const { device } = client;
    const calls = {
      setVerdict: () => device.setVerdict(value, Verdict.Accept),
      verdict: () => device.setVerdict(1n, value),
      setVerdicts: () => device.setVerdicts(value),
      updateVerdict: () => device.updateVerdict(value, Verdict.Accept),
      events: () => device.events(value),
      batches: () => device.batches(value),
      connect: () => network.connect(value),
      packet: () => network.packet(value, 'inbound'),
    };
    const error = this.#call(what, calls[what], (thrown) => thrown instanceof InvalidArgumentError);
    if (error === undefined) throw new Error(`${what} took ${JSON.stringify(value)}`);
  }

  // ---- At the end of a program

  async #expectNothingHeld(computer) {
    if (computer.isShort) return; // an injection that was refused is repeated later
    const held = () => computer.network.counters().heldNow;
    await waitFor(
      () => computer.isClosed || !computer.client.device.closed || held() === 0,
      () => `${held()} packets stay held without a client`,
    );
  }

  /** Decides everything: then nothing is held, because each held packet was asked about. */
  async #settle() {
    const computer = this.#computer;
    const { client } = computer;
    const { device } = client;
    const [recorder, ...others] = client.readers;
    if (computer.isClosed || device.closed || client.hasShutDown || recorder.hasEnded) return;
    if (computer.isShort) return;
    for (const reader of others) await reader.iterator.return();
    for (let round = 0; ; round++) {
      await this.#drain(computer, client, recorder);
      const open = computer.questions.filter(
        ({ event, client: asked }) => asked === client && !client.decided.has(event.id),
      );
      for (const question of open) this.#decide(question, Verdict.PermanentAccept, 'event');
      const { packetsHeld, eventsLost } = await within(device.getStatistics(), 'getStatistics()');
      if (open.length === 0 && packetsHeld === 0n) {
        await this.#expectLossesReported(client, eventsLost);
        break;
      }
      if (round === MOST_ROUNDS)
        throw new Error(`${packetsHeld} packets stay held without a question`);
      if (open.length === 0) await pause(1);
      // A fragment waits for its first one.
      if (this.#options.clock === 'virtual') computer.simulator.clock.advance(1000);
    }
    this.#compareReaders(client);
  }

  /** Each record that was lost before the last answer was reported as lost. */
  async #expectLossesReported(client, eventsLost) {
    const lost = eventsLost - ((await client.lostBefore) ?? eventsLost);
    await waitFor(
      () => client.reportedLost >= lost,
      () => `${lost} records were lost, and ${client.reportedLost} reported`,
    );
  }

  /** Reads what the driver has queued so far. */
  async #drain(computer, client, recorder) {
    let isAnswered = false;
    const answered = within(client.device.getLogs(), 'getLogs()')
      .catch((error) => {
        if (!(error instanceof BusyError)) throw error;
      })
      .finally(() => (isAnswered = true));
    while (!isAnswered) {
      if (!recorder.isPulled) {
        recorder.isPulled = true;
        this.#pullUntilLate(computer, client, recorder);
      }
      await nextTurn();
      this.#throwProblem();
    }
    await answered;
  }

  #pullUntilLate(computer, client, recorder) {
    const mayFail = this.#mayFailFor(client);
    const pull = async () => {
      for (;;) {
        const { value, done } = await recorder.iterator.next();
        if (done) return;
        this.#take(computer, client, recorder, value);
      }
    };
    this.#follow('the loop over the events', pull(), mayFail);
  }

  /** Every iterator gives the same events in the same order, from where it starts. */
  #compareReaders({ readers: [recorder, ...others] }) {
    for (const { events, types } of others) {
      const all = recorder.events.filter(({ type }) => types?.includes(type) !== false);
      const first = all.indexOf(events[0]);
      if (events.length > 0 && events.some((event, index) => event !== all[first + index]))
        throw new Error('two iterators disagree');
    }
  }

  /** Closes everything: then every promise settles. */
  async #end() {
    const computer = this.#computer;
    const { client } = computer;
    if (!computer.isClosed) {
      this.#follow('close()', client.device.close(), () => false);
      await this.#expectNothingHeld(computer);
    }
    computer.isClosed = true;
    await within(computer.simulator.close(), 'close() of the simulator');
    for (const { what, settled } of [...this.#pending.values()]) await within(settled, what);
  }
}

function isRefusal(client, id, error) {
  return client.device.closed
    ? error instanceof ClosedError ||
        (client.decided.has(id) && error instanceof AlreadyDecidedError)
    : client.decided.has(id) && error instanceof AlreadyDecidedError;
}
