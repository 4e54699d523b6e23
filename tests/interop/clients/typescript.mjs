// node typescript.mjs sdk|client URL http|sse legacy|auto|modern
// Lists the tools, calls `echo`, and prints what it saw as one JSON object.
import { prepare } from './connect.mjs';

const { client, version, connect } = prepare(...process.argv.slice(2));
await connect();
const { tools } = await client.listTools();
const { content } = await client.callTool({ name: 'echo', arguments: { message: 'over the wire' } });
console.log(JSON.stringify({ tools: tools.map((tool) => tool.name), text: content[0].text, version: version() }));
await client.close();
