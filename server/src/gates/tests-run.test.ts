import { expect, test } from 'vitest'
import { countTestsRun } from './tests-run.ts'

const count = (output: string) => countTestsRun(output, new Set(['test/a.test.js']))

test.each([
  ['node:test, TAP', '# tests 3\n# suites 0\n# pass 2\n# fail 1\n# cancelled 0\n# skipped 0\n', 3],
  ['node:test without tests', '# tests 0\n# pass 0\n# fail 0\n', 0],
  ['node:test with everything skipped', 'ℹ tests 2\nℹ pass 0\nℹ fail 0\nℹ skipped 2\n', 0],
  [
    'node:test with an emptied file',
    '✔ /workspace/test/a.test.js (164.5ms)\nℹ tests 1\nℹ pass 1\nℹ fail 0\n',
    0,
  ],
  ['node:test in TAP with an emptied file', 'ok 1 - test/a.test.js\n# tests 1\n# pass 1\n# fail 0\n', 0],
  ['node:test with a test named like no file', '✔ other.test.js (1ms)\nℹ tests 1\nℹ pass 1\nℹ fail 0\n', 1],
  ['pytest', '..F\n1 failed, 2 passed in 0.03s\n', 3],
  ['pytest, long', '===== 12 passed, 1 skipped, 2 warnings in 61.20s (0:01:01) =====', 12],
  ['pytest without tests', 'no tests ran in 0.01s', 0],
  ['pytest with everything deselected', '4 deselected in 0.01s', 0],
  ['pytest with an error', '1 error in 0.20s', 1],
  ['unittest', 'Ran 4 tests in 0.001s\n\nOK', 4],
  ['vitest', ' Test Files  1 passed (1)\n      Tests  1 failed | 2 passed (3)\n', 3],
  ['vitest without tests', 'No test files found, exiting with code 1', 0],
  ['jest', 'Tests:       1 failed, 2 passed, 3 total', 3],
  ['jest without tests', 'No tests found, exiting with code 1', 0],
  ['mocha', '  3 passing (5ms)\n  1 failing\n', 4],
  ['mocha without tests', '  0 passing (1ms)\n', 0],
  ['cargo', 'test result: ok. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out', 3],
  ['go', 'ok  \tx/a\t0.01s\n?   \tx/b\t[no test files]\nFAIL\tx/c\t0.02s\n', 2],
  ['go without tests', '?   \tx/b\t[no test files]\nok  \tx/a\t0.01s [no tests to run]\n', 0],
  ['a monorepo where one package has tests', '# tests 0\n# pass 0\n# tests 2\n# pass 2\n', 2],
  ['nothing known', 'all good\n', null],
  ['a long line', `# pass 5${' '.repeat(1000)}`, null],
])('the tests that ran are read from %s', (_what, output, expected) => {
  expect(count(output)).toBe(expected)
})
