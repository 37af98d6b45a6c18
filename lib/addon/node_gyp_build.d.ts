declare module 'node-gyp-build' {
  /** Loads the addon that fits, from `prebuilds/` or `build/` below a package's root. */
  function load(packageRoot: string): unknown;
  export = load;
}
