// Calls, streams and refused requests for a long time. What must not grow does not: memory is watched from the first
// quarter on, and neither a panic nor a lost log line is allowed.
import http from 'k6/http';
import { check, sleep } from 'k6';
import { Gauge } from 'k6/metrics';
import { admin, events, options as common, rpc, stream, summary } from './common.js';

const DURATION = __ENV.DURATION || '10m';
const WATCH_EVERY_S = 2;

const growth = new Gauge('memory_growth_mib');

export const options = {
  ...common,
  scenarios: {
    calls: { executor: 'constant-arrival-rate', rate: 100, timeUnit: '1s', duration: DURATION, preAllocatedVUs: 32 },
    streams: { executor: 'constant-vus', vus: 50, duration: DURATION, exec: 'streams' },
    strangers: {
      executor: 'constant-arrival-rate',
      exec: 'strangers',
      rate: 20,
      timeUnit: '1s',
      duration: DURATION,
      preAllocatedVUs: 8,
    },
    watch: { executor: 'constant-vus', vus: 1, duration: DURATION, exec: 'watch' },
  },
  thresholds: {
    http_req_failed: ['rate==0'],
    checks: ['rate==1'],
    'http_req_duration{name:rpc}': ['p(99)<250'],
    memory_growth_mib: ['value<16'],
  },
};

export default function () {
  check(rpc(http, __ENV.TOKEN), { 'the call is answered': (r) => r.status === 200 });
}

export function streams() {
  check(stream(http, __ENV.TOKEN, 40, 10), { 'every event came': (r) => events(r) === 40 });
}

export function strangers() {
  const response = rpc(http, 'guess', { responseCallback: http.expectedStatuses(401) });
  check(response, { 'a stranger is refused': (r) => r.status === 401 });
}

let started;
let baseline;

export function watch() {
  started = started || Date.now();
  const { body } = http.get(`${admin}/metrics`);
  const metric = (name) => Number((body.match(new RegExp(`^${name}(?:{[^}]*})? (\\S+)$`, 'm')) || [])[1]);
  const rss = metric('process_resident_memory_bytes') / 2 ** 20;
  if (Date.now() - started > quarter()) {
    baseline = baseline || rss;
    growth.add(rss - baseline);
  }
  check(null, {
    'no panic': () => metric('sluicegate_panics_total') === 0,
    'no log line lost': () => metric('sluicegate_log_lines_dropped_total') === 0,
  });
  sleep(WATCH_EVERY_S);
}

// A quarter of the run, in milliseconds.
function quarter() {
  const [, n, unit] = DURATION.match(/^(\d+)([smh])$/);
  return (n * { s: 1, m: 60, h: 3600 }[unit] * 1000) / 4;
}

export const handleSummary = summary('soak');
