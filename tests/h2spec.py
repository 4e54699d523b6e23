#!/usr/bin/env python3
"""h2spec, the conformance suite of HTTP/2 and HPACK, at the gateway over TLS: every test passes, the strict ones too.

    SLUICEGATE_BIN=target/release/sluicegate tests/h2spec.py [--tools target/tools]

h2spec is built with Go into `--tools` if it is not there; without Go the exit code is 77. It asks for a server that answers
after a moment: some of its tests send a frame for a request that has to be still on its way, which an answer that takes less
than a millisecond would overtake.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from script_parts import Server

H2SPEC = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"


class Slow(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_GET(self):
        time.sleep(0.1)
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, *_):
        pass


def build(tools):
    tool = tools / "h2spec"
    if not tool.exists():
        if shutil.which("go") is None:
            print("no Go on this machine to build h2spec")
            sys.exit(77)
        environment = os.environ | {"GOBIN": str(tools.resolve())}
        for _ in range(3):
            if subprocess.run(["go", "install", H2SPEC], env=environment, check=False).returncode == 0:
                break
    return tool


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", type=Path, default=Path("target/tools"), help="where h2spec is, or goes")
    args = parser.parse_args()
    binary = os.environ.get("SLUICEGATE_BIN", "target/release/sluicegate")
    tool = build(args.tools)
    upstream = Server(("127.0.0.1", 0), Slow)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder) / "gate.json", Path(folder) / "gate.log"
        proxy = {"addr": "127.0.0.1:0", "tls": {"selfSigned": True}, "allowedHosts": ["127.0.0.1"]}
        server = {"url": f"http://127.0.0.1:{upstream.server_address[1]}/mcp", "public": True}
        config.write_text(json.dumps({"proxy": proxy, "mcpServers": {"slow": server}}))
        with log.open("wb") as out:
            gate = subprocess.Popen([binary, "serve", "-c", str(config)], stdout=out, stderr=out)
        try:
            end = time.monotonic() + 20
            while not (found := re.search(r'"Listening".*?:(\d+)"', log.read_text())):
                if gate.poll() is not None or time.monotonic() > end:
                    print(log.read_text())
                    return 1
                time.sleep(0.05)
            suite = [str(tool), "-S", "-t", "-k", "-h", "127.0.0.1", "-p", found[1], "-P", "/slow/mcp", "-o", "5"]
            # The suite reports what failed once more at its end, under this heading.
            said = subprocess.run(suite, capture_output=True, text=True, timeout=300, check=False).stdout
        finally:
            gate.terminate()
            gate.wait(timeout=30)
    print(said[said.index("Failures:") :] if "Failures:" in said else said.strip().splitlines()[-1])
    total = re.search(r"(\d+) tests, (\d+) passed, 0 skipped, 0 failed", said)
    return 0 if total and total[1] == total[2] else 1


if __name__ == "__main__":
    sys.exit(main())
