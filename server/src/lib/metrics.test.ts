import { expect, test } from 'vitest'
import { Metrics } from './metrics.ts'

test('counters, gauges and histograms are told in the Prometheus text format', () => {
  const metrics = new Metrics()
  const requests = metrics.counter('requests_total', 'Requests.')
  requests.add({ route: '/a"b\n' })
  requests.add({ route: '/a"b\n' }, 2)
  metrics.gauge('queued', 'Waiting.').set(7)
  metrics.observed('answer', 'Read when asked.', () => 42)
  const seconds = metrics.histogram('wait_seconds', 'Time.', [0.1, 1])
  seconds.observe(0.1)
  seconds.observe(5)
  expect(metrics.render().split('\n')).toEqual([
    '# HELP requests_total Requests.',
    '# TYPE requests_total counter',
    String.raw`requests_total{route="/a\"b\n"} 3`,
    '# HELP queued Waiting.',
    '# TYPE queued gauge',
    'queued 7',
    '# HELP answer Read when asked.',
    '# TYPE answer gauge',
    'answer 42',
    '# HELP wait_seconds Time.',
    '# TYPE wait_seconds histogram',
    'wait_seconds_bucket{le="0.1"} 1',
    'wait_seconds_bucket{le="1"} 1',
    'wait_seconds_bucket{le="+Inf"} 2',
    'wait_seconds_sum 5.1',
    'wait_seconds_count 2',
    '',
  ])
})

test('a name is registered once', () => {
  const metrics = new Metrics()
  metrics.gauge('queued', 'Waiting.')
  expect(() => metrics.counter('queued', 'Again.')).toThrow(/twice/)
})
