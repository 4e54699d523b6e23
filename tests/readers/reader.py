"""Reads messages as a server in Python does, and says what each of the keys is that decide where a message goes.

On standard input: the length of a text in bytes, a line break, the text; again and again. On standard output: a line for
each, a JSON object from the path of a key to what it is; `null` for what is no message.
"""

import json
import sys

# As in reader.go and readers.rs.
KEYS = {
    "": ["jsonrpc", "id", "method", "params", "result", "error"],
    "params": [
        "_meta", "name", "arguments", "uri", "taskId", "progressToken", "requestId", "cursor", "level", "ref",
        "notifications", "protocolVersion", "capabilities", "clientInfo",
    ],
    "params._meta": [
        "progressToken", "io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities",
        "io.modelcontextprotocol/clientInfo", "io.modelcontextprotocol/logLevel",
        "io.modelcontextprotocol/subscriptionId", "io.modelcontextprotocol/related-task",
    ],
    "params.ref": ["type", "name", "uri"],
    "params.notifications": ["toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions"],
}  # fmt: skip


def what(value):
    match value:
        case bool():
            return "bool"
        case None:
            return "null"
        case str():
            # Half a surrogate pair has no UTF-8.
            return "text " + value.encode(errors="replace").decode()
        case int() if abs(value) < 2**53:
            return f"number {value}"
        case int() | float():
            return "number"
        case dict():
            return "object"
    return "array"


def read(text):
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    found = {}
    for place, keys in KEYS.items():
        of = message
        for step in filter(None, place.split(".")):
            of = of.get(step) if isinstance(of, dict) else None
        if isinstance(of, dict):
            found |= {f"{place}.{key}".lstrip("."): what(of[key]) for key in keys if key in of}
    return found


source, out = sys.stdin.buffer, sys.stdout
while length := source.readline():
    found = read(source.read(int(length)))
    out.write(json.dumps(found) + "\n")
    out.flush() if not source.peek(1) else None
