/** An outgoing TCP connection to port 443. */
export function connect(network, processId = 42) {
  const remote = { address: '198.51.100.1', port: 443 };
  return network.connect({ processId, protocol: 'tcp', remote });
}
