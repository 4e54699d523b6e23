"""A small MCP server on standard input and output, both eras, for tests of the gateway: one message a line, nothing else.

Tools: `echo` says back its text; `pid` and `env` tell about the process; `progress` reports progress first; `log` writes a
log message first, `after` writes one behind its answer; `change` says first that its tools are not what they were; `ask` asks
the client to sample and says what it answered; `large` says as many letters as `n`; `halves` does, too, with the id behind
them, and writes the second half when there is a file named `until`; `note` tells standard error its text; `flood` writes without
end; `burst` reports 256 KiB of progress and never answers; `sleep` never answers; `die` ends the process, `grudge` when its
caller leaves, and a subscription to `note://poison` before it is acknowledged. There is a prompt and a resource, too.

With LEGACY in the environment it has not heard of MCP 2026-07-28.
"""

import json
import os
import sys
import time

MODERN = "2026-07-28"
CAPABILITIES = {"tools": {"listChanged": True}, "prompts": {}, "resources": {}, "logging": {}}
asked = {}
grudges = set()


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def tell(words):
    sys.stderr.write(words + "\n")
    sys.stderr.flush()


def text(words):
    return {"content": [{"type": "text", "text": words}], "resultType": "complete"}


def listed():
    names = ["echo", "pid", "env", "progress", "log", "after", "change", "ask", "large", "halves", "note", "flood", "burst", "sleep", "die", "grudge"]
    return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names], "resultType": "complete"}


def call(identity, params):
    name, arguments = params.get("name"), params.get("arguments", {})
    if name == "echo":
        return text(arguments.get("text", ""))
    if name == "pid":
        return text(str(os.getpid()))
    if name == "env":
        return text(" ".join(sorted(os.environ)))
    if name == "progress":
        token = params.get("_meta", {}).get("progressToken")
        for step in (1, 2):
            send({"method": "notifications/progress", "params": {"progressToken": token, "progress": step}})
        return text("done")
    if name == "log":
        send({"method": "notifications/message", "params": {"level": "info", "data": "a line"}})
        return text("logged")
    if name == "after":
        send({"id": identity, "result": text("told")})
        send({"method": "notifications/message", "params": {"level": "info", "data": "afterwards"}})
        return None
    if name == "change":
        send({"method": "notifications/tools/list_changed"})
        return text("changed")
    if name == "ask":
        # The same id as the client's own request: ids of the two sides have nothing to do with each other.
        asked[identity] = identity
        send({"id": identity, "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}})
        return None
    if name == "large":
        return text("x" * arguments["n"])
    if name == "halves":
        answer = json.dumps({"jsonrpc": "2.0", "result": text("x" * arguments["n"]), "id": identity}) + "\n"
        half = len(answer) // 2
        sys.stdout.write(answer[:half])
        sys.stdout.flush()
        while not os.path.exists(arguments["until"]):
            time.sleep(0.005)
        sys.stdout.write(answer[half:])
        sys.stdout.flush()
        return None
    if name == "note":
        tell(f"noted {arguments.get('text')}")
        return text("noted")
    if name == "flood":
        while True:
            send({"method": "notifications/message", "params": {"level": "info", "data": "x" * 16384}})
    if name == "burst":
        token = params.get("_meta", {}).get("progressToken")
        for step in range(64):
            send({"method": "notifications/progress", "params": {"progressToken": token, "progress": step, "message": "x" * 4000}})
        return None
    if name == "sleep":
        tell("sleeping")
        return None
    if name == "die":
        os._exit(1)
    if name == "grudge":
        grudges.add(identity)
        tell("bearing a grudge")
        return None
    return {"error": {"code": -32602, "message": f"Unknown tool: {name}"}}


def answer(message):
    method, identity, params = message.get("method"), message.get("id"), message.get("params", {})
    if method is None:
        if identity in asked:
            send({"id": asked.pop(identity), "result": text("it said " + json.dumps(message.get("result")))})
        return
    if method == "notifications/cancelled":
        tell(f"cancelled {params.get('requestId')}")
        if params.get("requestId") in grudges:
            os._exit(1)
    if identity is None:
        return
    if method == "initialize":
        result = {
            "protocolVersion": params.get("protocolVersion"),
            "capabilities": CAPABILITIES,
            "serverInfo": {"name": "small", "version": "1"},
        }
    elif method == "server/discover" and "LEGACY" not in os.environ:
        result = {"supportedVersions": [MODERN], "capabilities": CAPABILITIES, "resultType": "complete"}
    elif method == "tools/list":
        result = listed()
    elif method == "tools/call":
        result = call(identity, params)
    elif method == "prompts/list":
        result = {"prompts": [{"name": "greeting"}], "resultType": "complete"}
    elif method == "prompts/get":
        result = {"messages": [], "description": params.get("name"), "resultType": "complete"}
    elif method == "resources/list":
        result = {"resources": [{"uri": "note://small", "name": "note"}], "resultType": "complete"}
    elif method == "resources/read" and params.get("uri") != "note://small":
        result = {"error": {"code": -32002, "message": "Resource not found"}}
    elif method == "resources/read":
        result = {"contents": [{"uri": params.get("uri"), "text": "a note"}], "resultType": "complete"}
    elif method == "subscriptions/listen":
        if "note://poison" in str(params):
            os._exit(1)
        key = {"io.modelcontextprotocol/subscriptionId": identity}
        send({"method": "notifications/subscriptions/acknowledged", "params": {"_meta": key, "notifications": {}}})
        return
    elif method == "ping":
        result = {}
    else:
        result = {"error": {"code": -32601, "message": "Method not found"}}
    if result is not None:
        send({"id": identity, **(result if "error" in result else {"result": result})})


for line in sys.stdin:
    answer(json.loads(line))
