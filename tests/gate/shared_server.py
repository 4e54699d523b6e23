"""A server of MCP on standard input and output that is like real ones in what harms who shares it.

It takes its era from what comes first, as the TypeScript SDK does: `server/discover` is a probe, and a message that claims no
version makes it a server of 2025-11-25 for good, which answers nobody of 2026-07-28. It counts its tasks, and tells whoever
asks about each. The first `server/discover` is never answered.
"""

import json
import sys

VERSION = "io.modelcontextprotocol/protocolVersion"
era = "opening"
tasks = []
probes = 0


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def tell(words):
    sys.stderr.write(words + "\n")
    sys.stderr.flush()


def answer(method, params):
    global probes
    if method == "server/discover":
        probes += 1
        if probes == 1:
            tell("probed")
            return None
        return {"result": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}}
    if method == "tools/list":
        return {"result": {"tools": [{"name": "make", "inputSchema": {"type": "object"}}], "resultType": "complete"}}
    if method == "tools/call":
        tasks.append("working")
        return {"result": {"resultType": "task", "taskId": f"task-{len(tasks)}", "status": "working"}}
    if method in ("tasks/get", "tasks/cancel", "tasks/update", "tasks/result"):
        tell(f"{method} {params.get('taskId')}")
        number = int(params["taskId"].removeprefix("task-")) - 1
        if method == "tasks/cancel":
            tasks[number] = "cancelled"
        return {"result": {"resultType": "complete", "taskId": params["taskId"], "status": tasks[number]}}
    return {"error": {"code": -32601, "message": "Method not found"}}


for line in sys.stdin:
    message = json.loads(line)
    method, params = message.get("method"), message.get("params") or {}
    claim = (params.get("_meta") or {}).get(VERSION)
    if era in ("opening", "probe"):
        if claim != "2026-07-28":
            era = "legacy"
        elif method != "server/discover":
            era = "modern" if "id" in message else era
        else:
            era = "probe"
    if method == "notifications/cancelled":
        tell(f"cancelled in a {era}")
    if "id" not in message:
        continue
    if era == "legacy":
        send({"id": message["id"], "error": {"code": -32600, "message": "not initialized"}})
        continue
    said = answer(method, params)
    if said is not None:
        send({"id": message["id"], **said})
