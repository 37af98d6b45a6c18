import { createSimulator } from 'netverdict';

const askTheUser = async ({ remotePort }) => remotePort === 443; // a window, and a click that takes minutes

async function main() {
  const { device, network } = await createSimulator();
  const remote = { address: '192.0.2.1', port: 443 };
  const { outcome } = network.connect({ processId: 42, protocol: 'tcp', remote });
  void outcome.then((result) => {
    console.log(result);
    return device.close();
  });

  for await (const event of device) {
    if (event.type !== 'connection') continue;
    void askTheUser(event).then((allowed) =>
      allowed ? event.accept({ permanent: true }) : event.block({ permanent: true }),
    );
  }
}

void main();
