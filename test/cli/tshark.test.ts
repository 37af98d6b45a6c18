/** tshark is the oracle of the command line, so what it cannot read must not look like an empty capture. */

import { afterAll, describe, expect, it } from 'vitest';
import { CaptureFolder } from './captures.js';
import { bundledCapture } from './run_cli.js';
import { dissect } from './tshark.js';

const folder = new CaptureFolder();
afterAll(() => {
  folder.remove();
});

describe('the oracle', () => {
  it('gives the packets of a capture', () => {
    expect(dissect(bundledCapture, 'ip', ['frame.number']).length).toBeGreaterThan(1000);
  });

  it.each([
    ['a file that is not there', () => folder.file('absent.pcap'), 'ip'],
    ['a file that is no capture', () => folder.write('text.pcap', 'no capture'), 'ip'],
    ['a capture that ends within a packet', () => folder.truncated('cut.pcap', 1_000_003), 'ip'],
    ['a filter that tshark does not know', () => bundledCapture, 'no.such.field == 1'],
  ])('fails with tshark for %s', (_, capture, filter) => {
    expect(() => dissect(capture(), filter, ['frame.number'])).toThrow(/^tshark of /);
  });
});
