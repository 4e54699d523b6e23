// node typescript.mjs sdk|client URL http|sse legacy|auto|modern
// Lists the tools, calls `echo`, and prints what it saw as one JSON object.
import { createRequire } from 'node:module';

// The packages are installed in the working directory, not beside this file.
const require = createRequire(`${process.cwd()}/`);
const [library, url, transport, era] = process.argv.slice(2);

const load = {
  sdk: () => ({
    ...require('@modelcontextprotocol/sdk/client/index.js'),
    ...require('@modelcontextprotocol/sdk/client/streamableHttp.js'),
    ...require('@modelcontextprotocol/sdk/client/sse.js'),
  }),
  client: () => require('@modelcontextprotocol/client'),
}[library];
const { Client, StreamableHTTPClientTransport, SSEClientTransport } = load();

const token = process.env.INTEROP_TOKEN;
const headers = token ? { Authorization: `Bearer ${token}` } : {};
const Transport = { http: StreamableHTTPClientTransport, sse: SSEClientTransport }[transport];
const mode = era === 'modern' ? { pin: '2026-07-28' } : era;

const client = new Client({ name: 'interop', version: '1.0.0' }, { versionNegotiation: { mode } });
const connection = new Transport(new URL(url), { requestInit: { headers } });
await client.connect(connection);
const { tools } = await client.listTools();
const { content } = await client.callTool({ name: 'echo', arguments: { message: 'over the wire' } });
// The older library does not tell which version it negotiated over HTTP+SSE.
const version = client.getNegotiatedProtocolVersion?.() ?? connection.protocolVersion ?? null;
console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), text: content[0].text, version }));
await client.close();
