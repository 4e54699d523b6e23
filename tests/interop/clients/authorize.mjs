// Preloaded into programs that cannot send a header of their own: gives every request the token.
// Node's fetch and npm's undici announce requests on one channel, node:http on the other.
import { subscribe } from 'node:diagnostics_channel';

const authorization = `Bearer ${process.env.INTEROP_TOKEN}`;

subscribe('undici:request:create', ({ request }) => request.addHeader('authorization', authorization));
subscribe('http.client.request.created', ({ request }) => request.setHeader('authorization', authorization));
