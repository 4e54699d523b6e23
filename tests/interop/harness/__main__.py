"""`python -m harness [--direct] [PIECE…]`: see README.md."""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from . import (
    aggregated,
    bridged,
    conformance,
    credentials,
    faults,
    framing,
    hostile,
    idp,
    inspector,
    isolation,
    oauth,
    sdk_clients,
)
from .certificates import issue
from .children import Children
from .report import Report

PIECES = {
    "conformance": conformance.run,
    "sdk": sdk_clients.run,
    "inspector": inspector.run,
    "oauth": oauth.run,
    "idp": idp.run,
    "credentials": credentials.run,
    "bridged": bridged.run,
    "aggregated": aggregated.run,
    "isolation": isolation.run,
    "hostile": hostile.run,
    "framing": framing.run,
    "faults": faults.run,
}

# Far more than a slow machine needs, far less than a CI job is given.
RUN_SECONDS = 700


async def run(folder: Path, pieces: list[str], binary: str | None, report: Report) -> None:
    certificates = issue(folder)
    async with Children(folder) as children:
        for piece in pieces:
            try:
                await PIECES[piece](children, folder, report, binary, certificates)
            except Exception as error:
                # One piece that cannot even start must not hide what the others find.
                traceback.print_exc()
                report.check(piece, f"{type(error).__name__}: {error}")


async def bounded(folder: Path, pieces: list[str], binary: str | None, report: Report) -> None:
    work = asyncio.ensure_future(run(folder, pieces, binary, report))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        await asyncio.wait_for(work, RUN_SECONDS)
    except (asyncio.CancelledError, TimeoutError):
        report.check("whole run", f"interrupted, or not done after {RUN_SECONDS} s")


def main() -> int:
    parser = argparse.ArgumentParser(prog="run.sh", description="Real MCP clients against the gateway.")
    parser.add_argument("--direct", action="store_true", help="without the gateway: checks the checks themselves")
    parser.add_argument("piece", nargs="*", help=f"one or more of {', '.join(PIECES)}; all by default")
    arguments = parser.parse_args()
    if unknown := set(arguments.piece) - PIECES.keys():
        parser.error(f"no such piece: {', '.join(sorted(unknown))}")

    binary = None
    if not arguments.direct:
        binary = shutil.which(os.environ.get("SLUICEGATE_BIN", ""))
        if binary is None:
            parser.error("set SLUICEGATE_BIN to the gateway's binary, or pass --direct")
        binary = str(Path(binary).resolve())

    folder = Path(tempfile.mkdtemp(prefix="sluicegate-interop-"))
    report = Report()
    asyncio.run(bounded(folder, arguments.piece or list(PIECES), binary, report))
    code = report.close()
    if code:
        print(f"logs and configs are in {folder}", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return code


sys.exit(main())
