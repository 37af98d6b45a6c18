import { defineConfig } from 'vitest/config';

const limits = {
  testTimeout: 30_000,
  hookTimeout: 60_000,
  expect: { poll: { timeout: 15_000 } }, // a busy machine is no failure
};

export default defineConfig({
  oxc: { include: /\.[cm]?ts$/ },
  test: {
    projects: [
      {
        extends: true,
        test: {
          name: 'netverdict',
          include: ['test/**/*.test.ts'],
          exclude: ['test/{compilers,package,windows,wine}/**'],
          ...limits,
        },
      },
      {
        extends: true,
        test: { name: 'package', include: ['test/package/*.test.ts'], ...limits },
      },
      {
        extends: true,
        test: { name: 'windows', include: ['test/windows/*.test.ts'], ...limits },
      },
      {
        extends: true,
        test: { name: 'compilers', include: ['test/compilers/*.test.ts'], ...limits },
      },
    ],
  },
});
