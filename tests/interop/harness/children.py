"""Child processes: each in a process group of its own, each bounded, none outliving the run."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ["INTEROP_CACHE"]).resolve()
NODE = str(CACHE / "node_modules" / ".bin" / "node")
PYTHON = str(CACHE / "venv" / "bin" / "python")
# Not there where there is no Go to build it.
FOLDING = CACHE / "folding"

READY_SECONDS = 30


@dataclass(frozen=True)
class Ended:
    """How a child ended; `code` is None when it ran out of time."""

    code: int | None
    stdout: str
    stderr: str

    def why(self) -> str:
        """The end of what it said, on one line."""
        said = " | ".join(line.strip() for line in (self.stderr + self.stdout).splitlines() if line.strip())
        ended = "timed out" if self.code is None else f"exit code {self.code}"
        return f"{ended}: {said[-600:]}"


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    # The pinned Node goes first, for tools that look it up by name.
    path = f"{Path(NODE).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, **extra}


class Children:
    """Starts children and ends them all, by their groups, when the `async with` block is left."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> "Children":
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in self._running:
            end_group(child)
        for child in self._running:
            await child.wait()

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    async def serve(
        self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None
    ) -> asyncio.subprocess.Process:
        """Starts a server; all it says goes to its log file."""
        with open(self.log(name), "wb") as log:
            child = await asyncio.create_subprocess_exec(
                *command,
                env=environment(env or {}),
                cwd=CACHE,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running.append(child)
        return child

    async def run(self, command: Sequence[str], env: Mapping[str, str], seconds: float) -> Ended:
        """Runs a command to its end, or for `seconds`."""
        child = await asyncio.create_subprocess_exec(
            *command,
            env=environment(env),
            cwd=CACHE,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._running.append(child)
        output = asyncio.ensure_future(child.communicate())
        done, _ = await asyncio.wait([output], timeout=seconds)
        end_group(child)
        stdout, stderr = await output
        self._running.remove(child)
        return Ended(child.returncode if done else None, stdout.decode(), stderr.decode())


def end_group(child: asyncio.subprocess.Process) -> None:
    # The group may live on in grandchildren after its leader ended, so it is signalled either way.
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


async def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def until(what: str, ready: Callable[[], Awaitable[bool]]) -> None:
    """Asks until `ready` says yes; RuntimeError after READY_SECONDS."""
    deadline = time.monotonic() + READY_SECONDS
    while not await ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} was not ready within {READY_SECONDS} s")
        await asyncio.sleep(0.05)
