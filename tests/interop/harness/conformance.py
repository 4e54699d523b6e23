"""The MCP conformance suite, direct and through the gateway: every check must end the same.

Through the gateway the fixture is reached in four ways: over Streamable HTTP on a plain and on a TLS listener, where the
gate passes bytes, and on stdio and over HTTP+SSE, where it bridges. On the plain listener once more with an access token that
a client got by OAuth: that has to be the same, check for check, as with a static token.
"""

import asyncio
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import upstreams
from .certificates import Certificates
from .children import CACHE, NODE, Children
from .gate import Entry, direct, start
from .known import KNOWN
from .people import Person, access_token, oauth
from .report import Report

SUITE = str(CACHE / "node_modules/@modelcontextprotocol/conformance/dist/index.js")
AUTHORIZE = (Path(__file__).parent.parent / "clients" / "authorize.mjs").as_uri()
REVISIONS = ("2025-11-25", "2026-07-28")
SUITE_SECONDS = 120
PERSON = "alice"

# What the fixture scores when nothing is in between. Fewer would mean that checks were lost, not passed.
DIRECT_PASSES = {"2025-11-25": 84, "2026-07-28": 164}

# The fixture does not implement this extension, and no revision requires it.
UNSCORED = "tasks-"

# Check id, name and status, with how often that came up.
Checks = Counter[tuple[str, str, str]]


@dataclass(frozen=True)
class Lane:
    """One way to the fixture, and every scenario's checks by revision."""

    name: str
    entry: Entry
    results: dict[str, dict[str, Checks]]


async def run(children: Children, folder: Path, report: Report, binary: str | None, tls: Certificates) -> None:
    # Each way has a fixture of its own: the suite watches for changes that it makes itself.
    async def lane(name: str) -> Lane:
        if name == "stdio":
            server: dict[str, Any] = upstreams.local_fixture()
        else:
            base = await upstreams.fixture(children, f"fixture-{name}")
            server = {"url": f"{base}/sse" if name == "sse" else f"{base}/mcp"}
        if name == "direct" or binary is None:
            entry = direct({"fixture": server["url"]})
        else:
            certificates = tls if name == "https" else None
            proxy, env = None, {}
            if name == "oauth":
                proxy = oauth(binary, folder, [PERSON])
                # One caller, as on the other ways: what a server keeps for one is for nobody else to come back to (Last-Event-ID).
                server |= {"authTokens": [], "users": [PERSON]}
            gate = await start(children, folder, f"gate-{name}", binary, {"fixture": server}, certificates, proxy)
            url = gate.url("mcp", "fixture")
            if name == "oauth":
                env = {"INTEROP_TOKEN": await access_token(children, gate, Person(PERSON, folder), url)}
            entry = Entry(urls={"fixture": url}, env={**gate.env, **env}, gated=True)
        results = {}
        for revision in REVISIONS:
            results[revision] = await suite(children, folder / f"{name}-{revision}", entry, "--requirements", revision)
        return Lane(name, entry, results)

    ways = ("direct", "plain", "https", "stdio", "sse", "oauth") if binary else ("direct",)
    straight, *gated = await asyncio.gather(*(lane(name) for name in ways))
    report_direct(report, straight)
    for other in gated:
        report_same(report, gated[0] if other.name == "oauth" else straight, other)
        if other.name != "https":
            await report_rebinding(children, folder, report, other)


async def suite(children: Children, output: Path, entry: Entry, *selection: str) -> dict[str, Checks]:
    """Runs the suite and returns the checks of each scenario; those that only inform are left out."""
    preload = ["--import", AUTHORIZE] if entry.gated else []
    command = [NODE, *preload, SUITE, "server", "--url", entry.urls["fixture"], "-o", str(output), *selection]
    ended = await children.run(command, entry.env, SUITE_SECONDS)
    scenarios = {}
    for file in sorted(output.glob("server-*/checks.json")):
        name = re.sub(r"^server-|-\d{4}-\d\d-\d\dT.*$", "", file.parent.name)
        checks = json.loads(file.read_text())
        scenarios[name] = Counter((c["id"], c["name"], c["status"]) for c in checks if c["status"] != "INFO")
    if not scenarios or ended.code is None:
        raise RuntimeError(f"the conformance suite did not finish: {ended.why()}")
    return scenarios


def passes(scenarios: dict[str, Checks]) -> int:
    return sum(n for checks in scenarios.values() for (_, _, status), n in checks.items() if status == "SUCCESS")


def report_direct(report: Report, lane: Lane) -> None:
    for revision, scenarios in lane.results.items():
        failures = [
            f"{scenario} {check} {status}"
            for scenario, checks in scenarios.items()
            for check, _, status in checks
            if status in ("FAILURE", "WARNING") and not scenario.startswith(UNSCORED)
        ]
        passed, least = passes(scenarios), DIRECT_PASSES[revision]
        if passed < least:
            failures.append(f"{passed} checks passed where {least} should")
        report.check(f"conformance {revision} direct: {passed} checks passed", "; ".join(failures) or None)


def report_same(report: Report, straight: Lane, other: Lane) -> None:
    for revision in REVISIONS:
        expected, found = straight.results[revision], other.results[revision]
        passed = f"{passes(found)} of {passes(expected)} checks passed"
        report.check(f"conformance {revision} {other.name}: {passed}", None)
        for scenario in sorted(expected.keys() | found.keys()):
            want, have = expected.get(scenario, Counter()), found.get(scenario, Counter())
            name = f"conformance {revision} {other.name} {scenario}"
            differs = f"{straight.name} {listed(want - have)}, {other.name} {listed(have - want)}"
            known = KNOWN.get((other.name, revision, scenario))
            if known is None:
                report.check(name, None if want == have else differs)
            elif want == have:
                report.check(f"{name} differs, as known", "it is the same now; take it out of known.py")
            else:
                ids = {check for check, _, _ in (want - have) + (have - want)}
                new = known.checks is not None and ids != known.checks
                report.check(f"{name} differs, as known: {known.why}", f"not as known: {differs}" if new else None)


async def report_rebinding(children: Children, folder: Path, report: Report, lane: Lane) -> None:
    name = "dns-rebinding-protection"
    selection = ("--scenario", name, "--spec-version", "2025-11-25")
    scenarios = await suite(children, folder / f"{lane.name}-rebinding", lane.entry, *selection)
    statuses = Counter(status for _, _, status in scenarios[name].elements())
    report.check(f"conformance {name} {lane.name}", None if statuses == {"SUCCESS": 2} else f"got {dict(statuses)}")


def listed(checks: Checks) -> str:
    return ", ".join(f"{check}={status}" for check, _, status in checks.elements()) or "nothing else"
