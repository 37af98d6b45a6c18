import { createSimulator, Verdict } from 'netverdict';

async function main() {
  const { device, network } = await createSimulator();
  const remote = { address: '192.0.2.1', port: 23 };
  const telnet = network.connect({ processId: 4242, protocol: 'tcp', remote });
  const web = network.connect({
    processId: 812,
    protocol: 'tcp',
    remote: { ...remote, port: 443 },
  });
  void Promise.all([telnet.outcome, web.outcome]).then((outcomes) => {
    console.log('telnet:', outcomes[0], 'web:', outcomes[1]);
    return device.close(); // ends the loop below
  });

  for await (const event of device) {
    if (event.type !== 'connection') continue;
    console.log(`process ${event.processId} → ${event.remoteAddress}:${event.remotePort}`);
    const unwanted = event.remotePort === 23;
    device.setVerdict(event.id, unwanted ? Verdict.PermanentBlock : Verdict.PermanentAccept);
  }
}

void main();
