"""An MCP server on standard input and output, both eras, that is somebody's: the token in ACCOUNT says whose.

A token is `canary-OWNER`. The tool `whoami` says OWNER, and another tool is called `is_OWNER`. `pid` tells the process.
"""

import json
import os
import sys

MODERN = "2026-07-28"
OWNER = os.environ.get("ACCOUNT", "canary-nobody").removeprefix("canary-")


def text(words):
    return {"content": [{"type": "text", "text": words}], "resultType": "complete"}


def answer(method, params):
    if method == "initialize":
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "account", "version": "1"}}
    if method == "server/discover":
        return {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "resultType": "complete"}
    if method == "tools/list":
        names = ["whoami", "pid", "is_" + OWNER]
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names], "resultType": "complete"}
    if method == "tools/call" and params["name"] == "whoami":
        return text(OWNER)
    if method == "tools/call" and params["name"] == "pid":
        return text(str(os.getpid()))
    return None


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message or "method" not in message:
        continue
    result = answer(message["method"], message.get("params", {}))
    outcome = {"result": result} if result else {"error": {"code": -32601, "message": "Method not found"}}
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], **outcome}) + "\n")
    sys.stdout.flush()
