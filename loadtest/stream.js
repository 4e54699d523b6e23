// Responses that are event streams, each read to its end. That they stream shows in the time to the first byte, which is
// far below the two seconds that each takes.
import http from 'k6/http';
import { check } from 'k6';
import { events, options as common, stream, summary } from './common.js';

const EVENTS = 50;
const PER_SECOND = 25;

export const options = {
  ...common,
  scenarios: {
    stream: { executor: 'constant-vus', vus: Number(__ENV.STREAMS || 100), duration: __ENV.DURATION || '20s' },
  },
  thresholds: {
    http_req_failed: ['rate==0'],
    checks: ['rate==1'],
    http_req_waiting: ['p(99)<500'],
    http_req_duration: ['p(99)<4000'],
  },
};

export default function () {
  const response = stream(http, __ENV.TOKEN, EVENTS, PER_SECOND);
  check(response, {
    'is an event stream': (r) => r.status === 200 && r.headers['Content-Type'] === 'text/event-stream',
    'every event came': (r) => events(r) === EVENTS,
  });
}

export const handleSummary = summary('stream');
