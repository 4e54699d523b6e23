"""What several of the scripts in this folder need."""

from http.server import ThreadingHTTPServer

# What a request of MCP 2026-07-28 says of itself.
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}

# An MCP server on standard input and output, of both eras, for `python3 -c`.
COMMAND = '''
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    method = message.get("method")
    if "id" not in message:
        continue
    if method == "server/discover":
        result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}
    elif method == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "stand-in", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [{"name": "hello", "inputSchema": {"type": "object"}}], "resultType": "complete"}
    else:
        result = {"content": [{"type": "text", "text": "hello"}], "resultType": "complete"}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
'''


class Server(ThreadingHTTPServer):
    """An HTTP server for a crowd of clients, some of which leave in the middle."""

    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request, client_address):
        """A client that leaves is told of by whoever asked."""
