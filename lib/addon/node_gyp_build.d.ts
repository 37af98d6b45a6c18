declare module 'node-gyp-build' {
  /** Loads the addon for this platform from `prebuilds/` or `build/` of a package. */
  function load(packageRoot: string): unknown;
  export = load;
}
