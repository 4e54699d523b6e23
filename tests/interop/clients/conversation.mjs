// node conversation.mjs sdk|client URL http|sse legacy|modern STEPS
// Takes the steps (a JSON list, see README.md) with a client that can do all that a server may ask for, and prints
// what it saw as one JSON object.
import { handlers, prepare } from './connect.mjs';

const WAIT_MILLISECONDS = 10_000;

const [library, url, kind, era, steps] = process.argv.slice(2);
const seen = { texts: [], logs: [], sampled: [], elicited: [], updated: [], changed: [], progress: [] };
const waiting = new Set();

function note(what, value) {
  seen[what].push(value);
  for (const look of waiting) look();
}

const textOf = ({ content }) => [content].flat()[0].text ?? null;

const { client, version, connect } = prepare(library, url, kind, era, { capabilities: { sampling: {}, elicitation: {} } });
const on = handlers(library, client);
on.request('sampling/createMessage', ({ params }) => {
  note('sampled', textOf(params.messages[0]));
  return { role: 'assistant', content: { type: 'text', text: 'sampled by the client' }, model: 'none' };
});
on.request('elicitation/create', ({ params }) => {
  note('elicited', params.message);
  return { action: 'accept', content: { username: 'ada', email: 'ada@example.com', name: 'Ada' } };
});
on.notification('notifications/message', ({ params }) => note('logs', params.data));
on.notification('notifications/resources/updated', ({ params }) => note('updated', params.uri));
on.notification('notifications/tools/list_changed', () => note('changed', 'tools'));

async function call(parameters) {
  const progress = [];
  const options = { onprogress: ({ progress: done }) => progress.push(done) };
  // The older library has the result's schema between the two.
  const result = await client.callTool(parameters, ...(library === 'sdk' ? [undefined] : []), options);
  seen.texts.push(textOf(result));
  seen.progress.push(progress);
}

const take = {
  async list() {
    seen.tools = (await client.listTools()).tools.map((tool) => tool.name);
    seen.prompts = (await client.listPrompts()).prompts.map((prompt) => prompt.name);
    seen.resources = (await client.listResources()).resources.map((resource) => resource.uri);
  },
  call: (name, args) => call({ name, arguments: args }),
  logged: (name, args) => call({ name, arguments: args, _meta: { 'io.modelcontextprotocol/logLevel': 'debug' } }),
  async prompt(name, args) {
    seen.texts.push(textOf((await client.getPrompt({ name, arguments: args })).messages[0]));
  },
  async read(uri) {
    seen.texts.push((await client.readResource({ uri })).contents[0].text ?? null);
  },
  level: (level) => client.setLoggingLevel(level),
  subscribe: (uri) => client.subscribeResource({ uri }),
  listen: () => client.listen({ toolsListChanged: true }),
  wait: (what) =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${what}`)), WAIT_MILLISECONDS);
      const look = () => {
        if (seen[what].length === 0) return;
        waiting.delete(look);
        clearTimeout(timer);
        resolve();
      };
      waiting.add(look);
      look();
    }),
};

await connect();
seen.version = version();
for (const [step, ...rest] of JSON.parse(steps)) await take[step](...rest);
console.log(JSON.stringify(seen));
await client.close();
