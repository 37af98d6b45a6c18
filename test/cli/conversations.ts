import type { JsonLine } from './run_cli.js';

/** The traffic of one conversation, from the local host's view. */
export interface Conversation {
  /** The number of successive connections between these endpoints. */
  connections: number;
  transmitted: number;
  received: number;
}

/** `tcp 10.0.0.1:1234 10.0.0.2:80` (local end first) → its traffic. */
export type Conversations = Map<string, Conversation>;

export function conversationKey(
  protocol: string,
  local: { address: string; port: number },
  remote: { address: string; port: number },
): string {
  return `${protocol} ${local.address}:${local.port} ${remote.address}:${remote.port}`;
}

export function conversationOf(conversations: Conversations, key: string): Conversation {
  let conversation = conversations.get(key);
  if (!conversation) {
    conversation = { connections: 0, transmitted: 0, received: 0 };
    conversations.set(key, conversation);
  }
  return conversation;
}

interface Tuple {
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
}

interface BandwidthEntry extends Tuple {
  readonly transmittedBytes: string;
  readonly receivedBytes: string;
}

const PROTOCOLS: Readonly<Record<number, string>> = { 6: 'tcp', 17: 'udp' };

function keyOf(protocol: string, tuple: Tuple): string {
  return conversationKey(
    protocol,
    { address: tuple.localAddress, port: tuple.localPort },
    { address: tuple.remoteAddress, port: tuple.remotePort },
  );
}

/** The TCP and UDP conversations in the events of a replay. */
export function conversationsOfReplay(lines: readonly JsonLine[]): Conversations {
  const conversations: Conversations = new Map();
  for (const line of lines) {
    const protocol = PROTOCOLS[line['protocol'] as number];
    if (protocol === undefined) continue;
    if (line.type === 'connection') {
      const key = keyOf(protocol, line as unknown as Tuple);
      conversationOf(conversations, key).connections += 1;
    }
    if (line.type === 'bandwidth') {
      for (const entry of line['entries'] as BandwidthEntry[]) {
        const conversation = conversationOf(conversations, keyOf(protocol, entry));
        conversation.transmitted += Number(entry.transmittedBytes);
        conversation.received += Number(entry.receivedBytes);
      }
    }
  }
  return conversations;
}

export interface Traffic {
  readonly tx: number;
  readonly rx: number;
}

/** Sums per protocol and IP version, in the shape of the summary's `bandwidth`. */
export function totals(conversations: Conversations) {
  const sum = (protocol: string, version: 'v4' | 'v6'): Traffic => {
    let tx = 0;
    let rx = 0;
    for (const [key, conversation] of conversations) {
      const [name = '', local = ''] = key.split(' ');
      const isV6 = local.split(':').length > 2;
      if (name !== protocol || isV6 !== (version === 'v6')) continue;
      tx += conversation.transmitted;
      rx += conversation.received;
    }
    return { tx, rx };
  };
  return {
    tcp: { v4: sum('tcp', 'v4'), v6: sum('tcp', 'v6') },
    udp: { v4: sum('udp', 'v4'), v6: sum('udp', 'v6') },
  };
}

export function countConnections(conversations: Conversations, protocol: string): number {
  let count = 0;
  for (const [key, conversation] of conversations) {
    if (key.startsWith(`${protocol} `)) count += conversation.connections;
  }
  return count;
}
