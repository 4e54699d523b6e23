"""An MCP server on standard input and output, both eras, that writes what real servers write: not always messages.

It says a log line and a notification before it answers `initialize`. Tools: `fine` answers; `latin1` and `cut` answer with what
cannot be read; `mark`, `title` and `batch` put something around an answer; `noise` writes what is no message first; `string`,
`float` and `power` spell the id of the answer, and of progress before it, otherwise; `nobody` answers what nobody asked first;
`ping` pings its client and answers once that has answered; `chatty` reports much progress first; `flood` says 4,000 times that
its tools changed, and then answers; `wait` never answers. `hold` is answered by the next `release`, before that one is; `write`
writes the line that it is given, and no other answer, with its id for `@ID`.
"""

import json
import sys

out = sys.stdout.buffer
waiting = {}


def write(raw):
    out.write(raw + b"\n")
    out.flush()


def send(message):
    write(json.dumps({"jsonrpc": "2.0", **message}).encode())


def answer(identity, text="fine"):
    return {"jsonrpc": "2.0", "id": identity, "result": {"content": [{"type": "text", "text": text}], "resultType": "complete"}}


def spelled(identity, how):
    # In place of the id as it is: 7 as "7", 7.0 and 7e0; of a string, an escape where there was a letter.
    if isinstance(identity, str):
        return '"' + "".join(f"\\u{ord(letter):04x}" for letter in identity) + '"'
    return {"string": f'"{identity}"', "float": f"{identity}.0", "power": f"{identity}e0"}[how]


def call(identity, params):
    name = params.get("name")
    token = params.get("_meta", {}).get("progressToken")
    good = json.dumps(answer(identity)).encode()
    if name == "latin1":
        write(good.replace(b'"fine"', b'"Smorg\xe9"'))
    elif name == "cut":
        write(good[: len(good) - 20])
    elif name == "mark":
        write(b"\xef\xbb\xbf" + good)
    elif name == "title":
        write(b"\x1b]0;a title\x07\x1b[?25l" + good + b"\x1b[0m")
    elif name == "batch":
        write(b"[" + json.dumps(answer("nobody")).encode() + b", " + good + b"]")
    elif name == "noise":
        for line in (b"ping", b'{"type":"heartbeat"}', b"[INFO] ready", b'{"level":"info","id":1,"msg":"caf\xe9"}', b"{", b""):
            write(line)
        write(good)
    elif name in ("string", "float", "power"):
        progress = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": "@", "progress": 1}})
        if token is not None:
            write(progress.replace('"@"', spelled(token, name)).encode())
        write(json.dumps(answer("@")).replace('"@"', spelled(identity, name)).encode())
    elif name == "nobody":
        send({"id": "nobody", "result": {}})
        write(good)
    elif name == "ping":
        waiting["ping"] = identity
        send({"id": "ping", "method": "ping"})
    elif name == "chatty":
        for step in range(500):
            send({"method": "notifications/progress", "params": {"progressToken": token, "progress": step}})
        write(good)
    elif name == "flood":
        for _ in range(4000):
            send({"method": "notifications/tools/list_changed", "params": {"_meta": {"padding": "x" * 2000}}})
        write(good)
    elif name == "hold":
        waiting["hold"] = good
        sys.stderr.write("holds\n")
        sys.stderr.flush()
    elif name == "release":
        write(waiting.pop("hold"))
        write(good)
    elif name == "write":
        write(params["arguments"]["line"].encode().replace(b"@ID", json.dumps(identity).encode()))
    elif name == "fine":
        write(good)


def heard(message):
    method, identity, params = message.get("method"), message.get("id"), message.get("params", {})
    if method is None:
        if identity in waiting:
            send(answer(waiting.pop(identity), json.dumps(message.get("result"))))
    elif identity is None:
        return
    elif method == "initialize":
        send({"method": "notifications/message", "params": {"level": "info", "data": "hello"}})
        capabilities = {"tools": {"listChanged": True}, "logging": {}}
        server = {"name": "odd", "version": "1"}
        send({"id": identity, "result": {"protocolVersion": params["protocolVersion"], "capabilities": capabilities, "serverInfo": server}})
    elif method == "tools/list":
        names = "fine latin1 cut mark title batch noise string float power nobody ping chatty flood wait hold release write".split()
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
        send({"id": identity, "result": {"tools": tools, "resultType": "complete"}})
    elif method == "server/discover":
        send({"id": identity, "result": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "resultType": "complete"}})
    elif method == "tools/call":
        call(identity, params)
    else:
        send({"id": identity, "error": {"code": -32601, "message": "Method not found"}})


for line in sys.stdin:
    heard(json.loads(line))
