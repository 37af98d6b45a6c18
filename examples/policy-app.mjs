import { createSimulator, Policy } from 'netverdict';

const policy = Policy.parse({
  rules: [{ name: 'no telnet', protocol: 'tcp', remote: { port: 23 }, verdict: 'permanent-block' }],
  default: 'permanent-accept',
});

async function main() {
  const { device, network } = await createSimulator();
  const connect = (processId, app, port) =>
    network.connect({
      processId,
      processPath: `\\device\\harddiskvolume1\\apps\\${app}.exe`,
      protocol: port === 53 ? 'udp' : 'tcp',
      remote: { address: '192.0.2.1', port },
    }).outcome;
  const outcomes = {
    'the browser asks for a name:': connect(process.pid + 1, 'browser', 53),
    'the browser opens a page:': connect(process.pid + 1, 'browser', 443),
    'telnet connects:': connect(process.pid + 2, 'telnet', 23),
    'our own resolver asks:': connect(process.pid, 'app', 53),
  };
  void Promise.all(Object.values(outcomes)).then(async () => {
    for (const [what, outcome] of Object.entries(outcomes)) console.log(what, await outcome);
    return device.close(); // ends the loop below
  });

  for await (const event of device) {
    if (event.type !== 'connection') continue;
    const isOurs = event.processId === process.pid; // the resolver and the tunnel are in this process
    const mayRedirect = event.direction === 'outbound' && !isOurs;
    if (mayRedirect && event.remotePort === 53) event.redirect('nameserver');
    else if (mayRedirect && event.processPath?.endsWith('\\browser.exe')) event.redirect('tunnel');
    else device.setVerdict(event.id, policy.decide(event));
  }
}

void main();
