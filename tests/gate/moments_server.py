"""An MCP server on standard input and output that never runs out of something to say, for tests of what ends a stream.

Its tool `moments` says again and again what time it is. With `"as": "progress"` it never answers, and reports progress;
with `"as": "update"` it answers at once, and what follows belongs to no request.
"""

import json
import sys
import threading
import time

MODERN = "2026-07-28"
CAPABILITIES = {"tools": {}, "resources": {"subscribe": True}}
# More than the gateway and two kernels hold for a client that reads slowly, and then as much as such a client takes.
BURST, PAUSE = 600, 0.006
lock = threading.Lock()


def send(message):
    with lock:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def moments(token):
    step = 0
    while True:
        step += 1
        made = f"made={time.time():.6f};" + "x" * 1000
        if token is None:
            send({"method": "notifications/resources/updated", "params": {"uri": made}})
        else:
            params = {"progressToken": token, "progress": step, "message": made}
            send({"method": "notifications/progress", "params": params})
        if step > BURST:
            time.sleep(PAUSE)


def answer(identity, method, params):
    if method == "initialize":
        server = {"name": "moments", "version": "1"}
        version = params.get("protocolVersion")
        return {"protocolVersion": version, "capabilities": CAPABILITIES, "serverInfo": server}
    if method == "server/discover":
        return {"supportedVersions": [MODERN], "capabilities": CAPABILITIES, "resultType": "complete"}
    if method == "tools/list":
        return {"tools": [{"name": "moments", "inputSchema": {"type": "object"}}], "resultType": "complete"}
    if method != "tools/call":
        return {}
    token = params["_meta"]["progressToken"]
    if params["arguments"]["as"] == "update":
        token = None
        # First: behind what follows it would wait for whoever reads that.
        send({"id": identity, "result": {"content": [], "resultType": "complete"}})
    threading.Thread(target=moments, args=(token,), daemon=True).start()
    return None


for line in sys.stdin:
    message = json.loads(line)
    if "id" in message and "method" in message:
        result = answer(message["id"], message["method"], message.get("params", {}))
        if result is not None:
            send({"id": message["id"], "result": result})
