/** Loads the native addon, or throws an error that says how to get it. @internal */

import { UnsupportedError } from '../base/errors.js';
import { loadBinding, type Binding } from './native.cjs';

export function requireBinding(): Binding {
  try {
    return loadBinding();
  } catch (cause) {
    throw new UnsupportedError(
      `The native part of netverdict cannot be loaded on ${process.platform}-${process.arch}. ` +
        "Run 'npm rebuild netverdict', which needs a C++ compiler and Python. The cause of this error gives the reason.",
      { cause },
    );
  }
}
