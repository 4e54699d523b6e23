"""A server of MCP 2026-07-28 on standard input and output that reads keys as loosely as any does: in whichever letter case,
with or without `_`, up to a zero byte, and of two that are one the last. It stands for those that callers share.

Tools: `hold` waits for `release`, which gives every call that waits its answer; `echo` says back its text; `progress` reports
progress first; `seen` says how many lines came that had the word of its argument in them.
"""

import json
import sys

MODERN = "2026-07-28"
held = {}
lines = []


def fold(key):
    key = key.split("\0")[0].upper().lower()
    return "".join(letter for letter in key if letter.isascii() and letter.isalnum())


def folded(pairs):
    return {fold(key): value for key, value in pairs}


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(words):
    return {"content": [{"type": "text", "text": words}], "resultType": "complete"}


def progress(params, step):
    token = (params.get("meta") or {}).get("progresstoken")
    if token is not None:
        send({"method": "notifications/progress", "params": {"progressToken": token, "progress": step}})


def call(identity, params):
    name, arguments = params.get("name"), params.get("arguments") or {}
    if name == "hold":
        held[str(identity)] = params
        sys.stderr.write("holding\n")
        sys.stderr.flush()
        return None
    if name == "release":
        for waiting, its in list(held.items()):
            progress(its, 1)
            send({"id": json.loads(waiting), "result": text("released")})
        held.clear()
        return text("done")
    if name == "progress":
        progress(params, 7)
        return text("done")
    if name == "seen":
        word = arguments.get("word")
        return text(str(sum(word in line for line in lines[:-1])))
    return text(str(arguments.get("text")))


def answer(message):
    method, identity, params = message.get("method"), message.get("id"), message.get("params") or {}
    if method == "notifications/cancelled":
        held.pop(str(params.get("requestid")), None)
    if method is None or identity is None:
        return
    if method == "tools/list":
        names = ["hold", "release", "echo", "progress", "seen"]
        result = {"tools": [{"name": n, "inputSchema": {"type": "object"}} for n in names], "resultType": "complete"}
    elif method == "tools/call":
        result = call(identity, params)
    elif method == "subscriptions/listen":
        key = {"io.modelcontextprotocol/subscriptionId": identity}
        for kind in ("subscriptions/acknowledged", "tools/list_changed"):
            send({"method": f"notifications/{kind}", "params": {"_meta": key, "notifications": {}}})
        return
    elif method in ("initialize", "server/discover"):
        result = {
            "protocolVersion": params.get("protocolversion"),
            "supportedVersions": [MODERN],
            "capabilities": {"tools": {}, "logging": {}},
            "serverInfo": {"name": "folding", "version": "1"},
            "resultType": "complete",
        }
    else:
        # Also what callers must not do to each other: it is done.
        sys.stderr.write(f"did {method}\n")
        sys.stderr.flush()
        result = {"resultType": "complete"}
    if result is not None:
        send({"id": identity, "result": result})


for line in sys.stdin:
    lines.append(line)
    answer(json.loads(line, object_pairs_hook=folded))
