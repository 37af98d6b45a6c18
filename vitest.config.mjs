import { defineConfig } from 'vitest/config';

const limits = { testTimeout: 30_000, hookTimeout: 60_000 };

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'netverdict',
          include: ['test/**/*.test.ts'],
          exclude: ['test/package/**'],
          pool: 'forks',
          ...limits,
        },
      },
      {
        test: { name: 'package', include: ['test/package/*.test.ts'], pool: 'forks', ...limits },
      },
    ],
  },
});
