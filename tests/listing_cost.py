#!/usr/bin/env python3
"""What `/servers` costs the gateway, by how many sessions there are.

    SLUICEGATE_BIN=target/release/sluicegate tests/listing_cost.py [--servers 1000] [--each 10] [--rounds 30]

An operator's page asks for it every few seconds. Each server costs the same, however many sessions it has: the exit code is 1
if ten each cost more than 3 times (`--most`) what one each does. Measured: 0.33 ms for a thousand servers with one each, 0.5 ms
with ten each, since what they do in between displaces from the caches what is looked at. CPU time is the gateway's own, from the scheduler
(/proc/PID/task/*/schedstat); time is what the asker waits. Debug builds are not what this is about.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OPS = "listing-token-0123456789abcdef01"
INITIALIZE = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "listing", "version": "1"},
        },
    }
)


class Gate:
    """A gateway with one worker and so many servers, each of them a tool of the config."""

    def __init__(self, binary, folder, servers, sessions):
        tool = {"name": "hello", "description": "Says hello", "inputSchema": {"type": "object"}, "command": "true"}
        proxy = {
            "addr": "127.0.0.1:0",
            "workers": 1,
            "allowedHosts": ["localhost"],
            "limits": {"maxSessions": 2 * sessions},
            "log": {"level": "warn"},
            "auth": {"tokens": {"ops": {"value": OPS, "roles": ["admin"]}}},
        }
        server = {"transportType": "inline", "inline": {"tools": [tool]}, "idleTimeout": "1h"}
        config = {"proxy": proxy, "mcpServers": {f"server-{n}": server for n in range(servers)}}
        file = Path(folder) / "gate.json"
        file.write_text(json.dumps(config))
        file.chmod(0o600)
        command = [binary, "serve", "-c", str(file), "--log-level", "info"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        for line in self.process.stdout:
            logged = json.loads(line)
            if logged["msg"] == "Listening":
                break
        else:
            raise SystemExit("the gateway did not start")
        # What it says from now on is for nobody.
        subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=subprocess.DEVNULL)
        self.client = http.client.HTTPConnection(logged["url"].rpartition("/")[2], timeout=20)
        self.sessions = 0

    def ask(self, method, path, body=None):
        fields = {"Host": "localhost", "Authorization": f"Bearer {OPS}", "Content-Type": "application/json"}
        fields["Accept"] = "application/json, text/event-stream"
        self.client.request(method, path, body, fields)
        answer = self.client.getresponse()
        text = answer.read()
        assert answer.status == 200, f"{path}: {answer.status} {text[:500]}"
        return text

    def cpu(self):
        """Milliseconds on a core so far."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6

    def initialize(self, server):
        self.ask("POST", f"/server-{server}/mcp", INITIALIZE)
        self.sessions += 1

    def listed(self, rounds):
        """Median milliseconds of an answer: on a core, and waited for."""
        spent, waited = [], []
        for _ in range(rounds):
            before, began = self.cpu(), time.perf_counter()
            text = self.ask("GET", "/servers")
            waited.append((time.perf_counter() - began) * 1000)
            spent.append(self.cpu() - before)
        counted = sum(server["sessions"] for server in json.loads(text)["servers"])
        assert counted == self.sessions, f"{counted} sessions"
        return statistics.median(spent), statistics.median(waited)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--servers", type=int, default=1000)
    options.add_argument("--each", type=int, default=10, help="sessions of a server")
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--most", type=float, default=3, help="in times one session of a server")
    options = options.parse_args()
    binary = os.environ.get("SLUICEGATE_BIN", "target/release/sluicegate")
    with tempfile.TemporaryDirectory() as folder:
        gate = Gate(binary, folder, options.servers, options.each * options.servers)
        try:
            costs = []
            for each in (1, options.each):
                while gate.sessions < each * options.servers:
                    gate.initialize(gate.sessions % options.servers)
                spent, waited = gate.listed(options.rounds)
                costs.append(spent)
                print(f"{options.servers} servers, {gate.sessions} sessions: {spent:.2f} ms of CPU, {waited:.2f} ms waited")
        finally:
            gate.process.kill()
            gate.process.wait()
    ratio = costs[1] / costs[0]
    print(f"{ratio:.2f} ×, {'ok' if ratio <= options.most else f'more than {options.most}'}")
    sys.exit(ratio > options.most)


if __name__ == "__main__":
    main()
