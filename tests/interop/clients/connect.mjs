// How the TypeScript clients reach a server: with either library, over either transport, with the run's token or by logging in.
import { createRequire } from 'node:module';

// The packages are installed in the working directory, not beside this file.
const require = createRequire(`${process.cwd()}/`);

const load = {
  sdk: () => ({
    ...require('@modelcontextprotocol/sdk/client/index.js'),
    ...require('@modelcontextprotocol/sdk/client/auth.js'),
    ...require('@modelcontextprotocol/sdk/client/streamableHttp.js'),
    ...require('@modelcontextprotocol/sdk/client/sse.js'),
  }),
  client: () => require('@modelcontextprotocol/client'),
};

/** What each library has for clients that log in. */
export function authorization(library) {
  const { auth, UnauthorizedError } = load[library]();
  return { auth, UnauthorizedError };
}

/** A client that is not connected yet, and what connects it. With an `authProvider` it logs in, and has no token before. */
export function prepare(library, url, transport, era, { authProvider, ...options } = {}) {
  const { Client, StreamableHTTPClientTransport, SSEClientTransport } = load[library]();
  const token = process.env.INTEROP_TOKEN;
  const headers = token && !authProvider ? { Authorization: `Bearer ${token}` } : {};
  const Transport = { http: StreamableHTTPClientTransport, sse: SSEClientTransport }[transport];
  const mode = era === 'modern' ? { pin: '2026-07-28' } : era;
  const client = new Client({ name: 'interop', version: '1.0.0' }, { versionNegotiation: { mode }, ...options });
  const connection = new Transport(new URL(url), { requestInit: { headers }, authProvider });
  // The older library does not tell which version it negotiated over HTTP+SSE.
  const version = () => client.getNegotiatedProtocolVersion?.() ?? connection.protocolVersion ?? null;
  return { client, connection, version, connect: () => client.connect(connection) };
}

/** Sets handlers by method name; the older library wants the schemas of its messages instead. */
export function handlers(library, client) {
  if (library === 'client') {
    return {
      request: (method, handler) => client.setRequestHandler(method, handler),
      notification: (method, handler) => client.setNotificationHandler(method, handler),
    };
  }
  const schemas = new Map(
    Object.values(require('@modelcontextprotocol/sdk/types.js'))
      .filter((schema) => schema?.shape?.method?.value)
      .map((schema) => [schema.shape.method.value, schema]),
  );
  return {
    request: (method, handler) => client.setRequestHandler(schemas.get(method), handler),
    notification: (method, handler) => client.setNotificationHandler(schemas.get(method), handler),
  };
}
