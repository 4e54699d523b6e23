// What the scripts share: where the gateway is, what to send, and one row of results.

export const gate = __ENV.GATE;
export const admin = __ENV.ADMIN;

export const options = {
  insecureSkipTLSVerify: true, // the gateway makes its certificate on the spot
  summaryTrendStats: ['med', 'p(95)', 'p(99)', 'max'],
};

const call = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: { name: 'echo', arguments: { text: 'x'.repeat(200) } },
});

export function headers(token) {
  return {
    Authorization: `Bearer ${token}`,
    'Content-Type': 'application/json',
    Accept: 'application/json, text/event-stream',
  };
}

export function rpc(http, token, params = {}) {
  return http.post(`${gate}/rpc`, call, { headers: headers(token), tags: { name: 'rpc' }, ...params });
}

// A stream of `n` events, `rate` a second. k6 gives a response to its script when it is complete.
export function stream(http, token, n, rate) {
  return http.get(`${gate}/events?n=${n}&rate=${rate}`, { headers: headers(token), tags: { name: 'stream' } });
}

export function events(response) {
  return response.body ? response.body.split('\n\n').length - 1 : 0;
}

// Prints a row for the table of run.sh and leaves everything as JSON.
export function summary(name) {
  return (data) => {
    const value = (metric, key) => (data.metrics[metric] ? data.metrics[metric].values[key] : 0);
    const failed = Object.entries(data.metrics).flatMap(([metric, { thresholds = {} }]) =>
      Object.entries(thresholds).filter(([, { ok }]) => !ok).map(([text]) => `${metric} ${text}`));
    const cells = [
      name,
      value('http_reqs', 'count'),
      value('http_reqs', 'rate').toFixed(0),
      ...['med', 'p(95)', 'p(99)'].map((key) => value('http_req_duration', key).toFixed(1)),
      value('http_req_waiting', 'p(99)').toFixed(1),
      value('http_req_failed', 'passes'),
      failed.join('; ') || 'pass',
    ];
    return { stdout: `| ${cells.join(' | ')} |\n`, [`${__ENV.OUT}/${name}.json`]: JSON.stringify(data, null, 2) };
  };
}
