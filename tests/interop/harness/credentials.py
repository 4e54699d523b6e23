"""The gateway as a client of authorization servers: the MCP conformance suite for clients, which has a server and an authorization server for each
thing that may be right or wrong there. Its client is a gateway with that server behind it, and somebody who connects an account when the
gateway says so.
"""

import asyncio
import re
from pathlib import Path

from .certificates import Certificates
from .children import CACHE, NODE, PYTHON, Children
from .report import Report

SUITE = str(CACHE / "node_modules/@modelcontextprotocol/conformance/dist/index.js")
DRIVER = Path(__file__).parent.parent / "clients" / "account.py"
SCENARIO_SECONDS = 60
# Gateways that run at a time.
MOST = 4

REQUIRED = (
    "metadata-default",
    "metadata-var1",
    "metadata-var2",
    "metadata-var3",
    "basic-cimd",
    "scope-from-www-authenticate",
    "scope-from-scopes-supported",
    "scope-omitted-when-undefined",
    "scope-step-up",
    "scope-retry-limit",
    "token-endpoint-auth-basic",
    "token-endpoint-auth-post",
    "token-endpoint-auth-none",
    "pre-registration",
    "resource-mismatch",
    "offline-access-scope",
    "offline-access-not-supported",
    "authorization-server-migration",
    "iss-supported",
    "iss-not-advertised",
    "iss-supported-missing",
    "iss-wrong-issuer",
    "iss-unexpected",
    "iss-normalized",
    "metadata-issuer-mismatch",
)
# By revision. Extensions are of none.
SCENARIOS = {
    "2026-07-28": REQUIRED,
    "2025-03-26": ("2025-03-26-oauth-metadata-backcompat", "2025-03-26-oauth-endpoint-fallback"),
    "": ("client-credentials-jwt", "client-credentials-basic"),
}


async def run(children: Children, folder: Path, report: Report, binary: str | None, tls: Certificates) -> None:
    if binary is None:
        return
    turns = asyncio.Semaphore(MOST)

    async def one(revision: str, scenario: str) -> None:
        async with turns:
            output = folder / "credentials" / scenario
            command = [NODE, SUITE, "client", "--scenario", f"auth/{scenario}", "-o", str(output)]
            command += ["--command", f"{PYTHON} -E {DRIVER}", *(["--spec-version", revision] if revision else [])]
            ended = await children.run(command, {"SLUICEGATE_BIN": binary}, SCENARIO_SECONDS)
        said = ended.stderr + ended.stdout
        passed = re.search(r"Passed: (\d+)/(\d+), 0 failed, 0 warnings", said)
        is_good = ended.code == 0 and passed and int(passed[1]) > 0
        report.check(f"conformance auth/{scenario}", None if is_good else ended.why())

    await asyncio.gather(*(one(revision, scenario) for revision, all in SCENARIOS.items() for scenario in all))
