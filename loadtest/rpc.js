// Tool calls answered with JSON, on connections that stay open.
import http from 'k6/http';
import { check } from 'k6';
import { options as common, rpc, summary } from './common.js';

export const options = {
  ...common,
  scenarios: {
    rpc: {
      executor: 'constant-arrival-rate',
      rate: Number(__ENV.RATE || 300),
      timeUnit: '1s',
      duration: __ENV.DURATION || '20s',
      preAllocatedVUs: 32,
    },
  },
  thresholds: {
    http_req_failed: ['rate==0'],
    checks: ['rate==1'],
    http_req_duration: ['p(95)<50', 'p(99)<250'],
    dropped_iterations: ['count==0'],
  },
};

export default function () {
  const response = rpc(http, __ENV.TOKEN);
  check(response, { 'the reply is whole': (r) => r.status === 200 && r.body.length === 1024 });
}

export const handleSummary = summary('rpc');
