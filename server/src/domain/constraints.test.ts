import { expect, test } from 'vitest'
import { constraintProblems, resolveConstraints } from './constraints.ts'
import { DEFAULT_CONSTRAINTS } from './facts.ts'

const AGENT = {
  constraints: {
    ...DEFAULT_CONSTRAINTS,
    maxSteps: 300,
    maxCredits: 100,
    allowTools: ['read', 'write'],
    denyTools: ['write'],
  },
  toolNames: ['read', 'write', 'run'],
}

test('what is not asked for is what the agent allows', () => {
  expect(resolveConstraints({}, AGENT)).toEqual(AGENT.constraints)
})

test('tighter caps hold, and denials add up', () => {
  const asked = { maxSteps: 5, maxTokens: 1_000, allowTools: ['read'], denyTools: ['run'] }
  expect(constraintProblems(asked, AGENT)).toEqual([])
  expect(resolveConstraints(asked, AGENT)).toEqual({
    ...AGENT.constraints,
    maxSteps: 5,
    maxTokens: 1_000,
    allowTools: ['read'],
    denyTools: ['write', 'run'],
  })
})

test.each([
  [{ maxSteps: 301 }, 'maxSteps'],
  [{ maxCredits: 101 }, 'maxCredits'],
  [{ maxCredits: null }, 'maxCredits'],
  [{ maxDurationSeconds: 1801 }, 'maxDurationSeconds'],
  [{ allowTools: ['run'] }, 'allowTools'],
  [{ denyTools: ['fly'] }, 'denyTools'],
  [{ requireApprovalFor: ['fly'] }, 'requireApprovalFor'],
])('%j is looser than the agent or names no tool of it', (asked, field) => {
  expect(constraintProblems(asked, AGENT)).toMatchObject([{ field }])
})
