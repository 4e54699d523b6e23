// A token rotates while load runs: run.sh writes the config file anew every PERIOD seconds, with the credential of the
// period before, of this one and of the next. Clients move on to the next without a single failure, and what was
// rotated out is refused.
import http from 'k6/http';
import { check } from 'k6';
import { options as common, rpc, stream, events, summary } from './common.js';

const PERIOD = Number(__ENV.PERIOD);

export const options = {
  ...common,
  scenarios: {
    clients: { executor: 'constant-vus', vus: 16, duration: __ENV.DURATION || '20s' },
    streams: { executor: 'constant-vus', vus: 16, duration: __ENV.DURATION || '20s', exec: 'streams' },
    left_behind: {
      executor: 'constant-arrival-rate',
      exec: 'leftBehind',
      rate: 5,
      timeUnit: '1s',
      duration: __ENV.DURATION || '20s',
      preAllocatedVUs: 4,
    },
  },
  thresholds: { http_req_failed: ['rate==0'], checks: ['rate==1'] },
};

function credential(periods) {
  return `${__ENV.ROTATING}${Math.floor(Date.now() / 1000 / PERIOD) + periods}`;
}

export default function () {
  check(rpc(http, credential(0)), { 'the current token passes': (r) => r.status === 200 });
}

export function streams() {
  const response = stream(http, credential(0), 10, 20);
  check(response, { 'a stream outlives the reload': (r) => r.status === 200 && events(r) === 10 });
}

export function leftBehind() {
  const response = rpc(http, credential(-3), { responseCallback: http.expectedStatuses(401) });
  check(response, { 'a token from before is refused': (r) => r.status === 401 });
}

export const handleSummary = summary('rotate');
