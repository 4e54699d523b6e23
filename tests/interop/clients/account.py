"""python account.py URL: the client that the conformance suite has, made of the gateway and somebody who uses it.

Starts a gateway in front of the server at URL, with `upstreamAuth` as the scenario (MCP_CONFORMANCE_SCENARIO) needs it, and calls the server's
tool through it. Where the gateway says that an account has to be connected, somebody connects it, and the call is made again. Ends with 1 if
the tool was never called.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from pages import Browser

SERVER = "subject"
# Its hash is one that costs nothing to compare: nobody else logs in here.
USER, PASSWORD = "alice", "password123"
HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$rqReNQSuNpi+3YF2W7U7W9ByJ6959j7LZ/qa31zY2Gg"
# As often as somebody connects who is asked to.
MOST_TRIES = 6
READY_SECONDS = 15


def upstream_auth(scenario: str, context: dict[str, Any], folder: Path) -> dict[str, Any]:
    """As an operator would write it who knows what the scenario says. The suite's servers are on this machine."""
    auth: dict[str, Any] = {"kind": "user_oauth", "allowPrivateIssuers": True}
    if scenario.startswith("auth/client-credentials"):
        auth["kind"] = "client_credentials"
    if "client_id" in context:
        auth["clientId"] = context["client_id"]
    if "client_secret" in context:
        auth["clientSecret"] = context["client_secret"]
    if "private_key_pem" in context:
        key = folder / "key.pem"
        key.touch(mode=0o600)
        key.write_text(context["private_key_pem"])
        auth["privateKey"] = {"$file": str(key)}
    if "issuer" in context:
        auth["issuer"] = context["issuer"]
    if scenario == "auth/basic-cimd":
        auth["clientMetadataUrl"] = "https://conformance-test.local/client-metadata.json"
    return auth


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Gateway:
    """A gateway that runs, as one of its users sees it."""

    def __init__(self, folder: Path, url: str, auth: dict[str, Any]) -> None:
        self.base = f"http://127.0.0.1:{free_port()}"
        config = {
            "version": "1.0",
            "proxy": {
                "name": "conformance",
                "baseUrl": self.base,
                "addr": self.base.removeprefix("http://"),
                "stateDir": str(folder / "state"),
                "auth": {"kind": "oauth", "users": {USER: {"passwordHash": HASH}}},
            },
            "mcpServers": {SERVER: {"url": url, "users": [USER], "upstreamAuth": auth}},
        }
        file = folder / "sluicegate.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(config))
        self._log = open(folder / "gateway.log", "wb")
        command = [os.environ["SLUICEGATE_BIN"], "serve", "-c", str(file)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        self.headers = {"Content-Type": "application/json"}

    def wait(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the gateway does not start")
            try:
                urlopen(f"{self.base}/health/ready", timeout=5).close()
            except (HTTPError, URLError, ConnectionError):
                time.sleep(0.05)
            else:
                break
        tokens = self.post("/auth/login", {"username": USER, "password": PASSWORD}, {})
        self.headers["Authorization"] = f"Bearer {tokens[1]['token']}"

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def post(self, path: str, message: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any, Any]:
        """Status, the message that answers, and fields of the answer."""
        request = Request(f"{self.base}{path}", json.dumps(message).encode(), self.headers | headers)
        try:
            got = urlopen(request, timeout=20)
        except HTTPError as error:
            got = error
        with got:
            text = got.read().decode()
            if got.headers.get_content_type() == "text/event-stream":
                data = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
                messages = [json.loads(line) for line in data if line]
                answer = next((it for it in messages if "method" not in it), None)
            else:
                answer = json.loads(text) if text.strip() else None
            return got.status, answer, got.headers


class Session:
    """One that speaks MCP with the server, of the revision that the scenario has."""

    def __init__(self, gateway: Gateway, version: str) -> None:
        self._gateway, self._version, self._number = gateway, version, 0
        self._headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": version}
        self._is_stateless = version >= "2026-07-28"
        if not self._is_stateless:
            about = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "suite", "version": "1"}}
            status, answer, fields = self._send("initialize", about)
            if status == 200 and answer and "result" in answer:
                self._headers["MCP-Protocol-Version"] = answer["result"]["protocolVersion"]
                if "Mcp-Session-Id" in fields:
                    self._headers["Mcp-Session-Id"] = fields["Mcp-Session-Id"]
                self._gateway.post(f"/{SERVER}/mcp", {"jsonrpc": "2.0", "method": "notifications/initialized"}, self._headers)

    def _send(self, method: str, params: dict[str, Any], **headers: str) -> tuple[int, Any, Any]:
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        return self._gateway.post(f"/{SERVER}/mcp", message, self._headers | headers)

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        headers = {}
        if self._is_stateless:
            said = {"protocolVersion": self._version, "clientInfo": {"name": "suite", "version": "1"}, "clientCapabilities": {}}
            params = params | {"_meta": {f"io.modelcontextprotocol/{name}": value for name, value in said.items()}}
            headers["Mcp-Method"] = method
            if "name" in params:
                headers["Mcp-Name"] = params["name"]
        status, answer, _ = self._send(method, params, **headers)
        print(f"{method}: {status} {json.dumps(answer)[:600]}")
        return answer


def connect_url(base: str, answer: Any) -> str | None:
    """Where an answer says that an account can be connected."""
    found = re.search(rf"{re.escape(base)}/oauth/authorize\?server_id={SERVER}", json.dumps(answer))
    return found and found[0]


def use(gateway: Gateway, version: str) -> tuple[bool, str | None]:
    """Lists the tools and calls the server's: whether that worked, and where to go if it did not."""
    session = Session(gateway, version)
    listed = session.ask("tools/list", {}) or {}
    tools = [tool["name"] for tool in listed.get("result", {}).get("tools", [])]
    name = next((name for name in tools if not name.startswith("connect_")), None)
    called = session.ask("tools/call", {"name": name or (tools or ["test-tool"])[0], "arguments": {}}) or {}
    result = called.get("result", {})
    is_done = name is not None and "content" in result and not result.get("isError")
    return is_done, connect_url(gateway.base, [called, listed])


def main(url: str) -> int:
    scenario, version = os.environ["MCP_CONFORMANCE_SCENARIO"], os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"]
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    os.environ |= {"INTEROP_USER": USER, "INTEROP_PASSWORD": PASSWORD}
    with tempfile.TemporaryDirectory(prefix="sluicegate-account-") as name:
        folder = Path(os.environ.get("INTEROP_KEEP") or name)
        gateway = Gateway(folder, url, upstream_auth(scenario, context, folder))
        browser = Browser()
        try:
            gateway.wait()
            for _ in range(MOST_TRIES):
                is_done, page = use(gateway, version)
                if is_done:
                    # Once more: an authorization server may have changed meanwhile.
                    is_done, page = use(gateway, version)
                    if is_done:
                        return 0
                if page is None:
                    break
                try:
                    end = browser.visit(page)
                except HTTPError as error:
                    print(f"{error}: {error.read().decode()[-1500:]}")
                    break
                print(f"a browser ends at {end}")
                if "/oauth/error" in end:
                    break
            return 1
        finally:
            gateway.stop()
            print((folder / "gateway.log").read_text()[-6000:], file=sys.stderr)


sys.exit(main(sys.argv[1]))
