"""What `/proc` tells about processes and their children."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stat:
    """State letter, parent, and start time in ticks: with the id it names a process for good."""

    state: str
    parent: int
    started: int


def stat(pid: int) -> Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name is in brackets and may hold anything.
    fields = text.rpartition(")")[2].split()
    return Stat(fields[0], int(fields[1]), int(fields[19]))


def children(pid: int) -> dict[int, Stat]:
    """Every child of a process, dead ones that nobody waited for too."""
    numbers = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return {number: found for number in numbers if (found := stat(number)) and found.parent == pid}


def descendants(pid: int) -> list[int]:
    found = list(children(pid))
    return found + [below for child in found for below in descendants(child)]


def descriptors(pid: int) -> list[str]:
    """What each open descriptor of a process is; without root's rights, of a gateway only how many there are."""
    found = []
    try:
        entries = os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        # Since Linux 6.2. The gateway does not let others of its user look inside.
        return ["open"] * os.stat(f"/proc/{pid}/fd").st_size
    for entry in entries:
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{entry}"))
        except FileNotFoundError:
            continue
    return found


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """User and system time of the process's live threads, from the scheduler's nanoseconds."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


class Identities:
    """Processes by id and start time, so that another one with the same id is not taken for them."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._known = {pid: found for pid in pids if (found := stat(pid))}

    def alive(self) -> list[int]:
        """Those that still run; one that is dead and not waited for does not."""
        return [
            pid
            for pid, known in self._known.items()
            if (now := stat(pid)) and now.started == known.started and now.state not in "ZX"
        ]

    def gone_within(self, seconds: float) -> list[int]:
        """Those that still run after `seconds`."""
        deadline = time.monotonic() + seconds
        while (alive := self.alive()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return alive
