"""Runs the commands that the documents show, in the order of each page, and checks the configs that they show.

Of README.md, CONTRIBUTING.md and docs/**/*.md each fenced block is looked at. A comment in front of it says more:

    <!-- file: NAME -->         the block is what the file NAME holds
    <!-- in: KEY -->           the block (jsonc) is part of the object KEY of a config, such as mcpServers or proxy.auth
    <!-- until: TEXT -->       the commands go on running; the next block begins when they have written TEXT
    <!-- says: TEXT -->        the commands write TEXT, and end well
    <!-- run by: STEP -->      that step of .ci/run runs them
    <!-- not run: REASON -->   they cannot be run here

Each command of a block of `sh` has to end with 0: also one in front of `&&`, and one in `$(…)`. In a block of `console`,
lines with `$ ` are commands and the others what they write, where `…` stands for anything. What goes on may not fail while
its page runs; nothing that a page has started is left behind it, nor when this script is told to end. Each page has a
directory and a shell environment of its own; all run on a loopback interface of their own where the system allows that.
`npx` is a stand-in, since nothing is downloaded.
"""

import argparse
import ctypes
import fcntl
import itertools
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.dont_write_bytecode = True
from script_parts import COMMAND  # noqa: E402

PAGES = ["README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))]
# What is shown and not run: configs of other programs, messages, output.
SHOWN = {"text", "json", "nginx", "haproxy", "yaml", "rust"}
MARKS = {"file", "in", "until", "says", "run by", "not run"}
SECONDS = 60
# Variables and files that configs of the pages refer to.
VARIABLES = {name: f"an-example-of-a-secret-called-{name}" for name in (
    "DEV_TOKEN", "NIGHT_TOKEN", "DOCS_API_KEY", "TEAM_TOKEN", "JWT_SECRET", "IDP_SECRET", "INTROSPECTION_SECRET",
    "GITHUB_SECRET", "ENTRA_SECRET", "INTERNAL_BACKEND_TOKEN")}
VARIABLES["ENCRYPTION_KEY"] = "an-example-of-a-key-of-32-bytes."
FILES = ["ops.token", "cert.pem", "key.pem"]


class Problem(Exception):
    """Why a block is not as its page says."""


class Block:
    """A fenced block: where it begins, its language, its marks and its text."""

    def __init__(self, line, language, marks, text):
        self.line, self.language, self.marks, self.text = line, language, marks, text


def blocks(text):
    """The fenced blocks of a page, each with the comments right in front of it."""
    found, marks, lines = [], {}, iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        stripped = line.strip()
        if (begun := re.match(r"<!--\s*([a-z ]+):", stripped)) and begun[1] in MARKS and not stripped.endswith("-->"):
            raise Problem(f"line {number}: a mark is one line")
        if comment := re.fullmatch(r"<!-- ([a-z ]+): (\S.*) -->", stripped):
            if comment[1] not in MARKS:
                raise Problem(f"line {number}: no mark is called `{comment[1]}`")
            marks[comment[1]] = comment[2]
        elif stripped.startswith("```"):
            indent, body = len(line) - len(line.lstrip()), []
            for _, inner in lines:
                if inner.strip() == "```":
                    break
                body.append(inner[indent:])
            else:
                raise Problem(f"line {number}: a block without an end")
            found.append(Block(number, stripped[3:], marks, "\n".join(body) + "\n"))
            marks = {}
        elif stripped:
            if marks:
                raise Problem(f"line {number}: a mark stands in front of no block")
    return found


def statements(commands):
    """The commands of a block one by one, each with all of its lines."""
    begun = ""
    for line in commands.splitlines(keepends=True):
        begun += line
        read = subprocess.run(["bash", "-n"], input=begun, text=True, stderr=subprocess.PIPE)
        # Of a here-document without its end, bash only warns.
        if read.returncode == 0 and not read.stderr and not begun.endswith("\\\n"):
            yield begun
            begun = ""
    if begun.strip():
        raise Problem(f"is no command that ends:\n{begun}")


def descendants():
    """All processes that this one has started, and those that they have."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold anything.
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(stat.parent.name))
    found, of = [], [os.getpid()]
    while of:
        of = [child for parent in of for child in children.get(parent, [])]
        found += of
    return found


def end_all():
    """Ends all that this process has started, whatever session it is in by now."""
    for kind, seconds in [(signal.SIGTERM, 10), (signal.SIGKILL, 5)]:
        for pid in descendants():
            try:
                os.kill(pid, kind)
            except ProcessLookupError:
                pass
        end = time.monotonic() + seconds
        while descendants() and time.monotonic() < end:
            time.sleep(0.02)


class Page:
    """What runs for one page: a directory, an environment, and the commands that go on."""

    def __init__(self, directory, binary):
        self.directory, self.running, self.ready = directory, [], directory / ".environment"
        self.failed = directory / ".failed"
        programs = directory / ".bin"
        programs.mkdir()
        (programs / "sluicegate").symlink_to(binary)
        (programs / "npx").write_text(f"#!/usr/bin/env python3\n{COMMAND}")
        (programs / "npx").chmod(0o755)
        # curl fails where a status says so, and never waits for ever.
        (directory / ".curlrc").write_text(f"silent\nshow-error\nfail-with-body\nmax-time = {SECONDS}\n")
        keep = {name: os.environ[name] for name in ("LANG", "LC_ALL") if name in os.environ}
        self.environment = keep | {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(directory)}

    def shell(self, commands):
        """The words that run `commands` by what earlier blocks exported."""
        state, failed = self.ready, self.failed
        # `set -e` passes over what fails in front of `&&`, and in `$(…)` of an argument or of `export`: the status of each
        # statement is for the one, and the trap, which `set -E` hands on to subshells, for the other.
        look = "_status=$?; [ $_status = 0 ] || exit $_status"
        of_each = "".join(f"{each.rstrip()}\n{look}\n" for each in statements(commands))
        return ["bash", "-c", f"set -eEo pipefail; [ ! -e {state} ] || . {state}\n"
                f"trap 'printf \"%s\\n\" \"$BASH_COMMAND\" >>{failed}' ERR\n{of_each}trap - ERR\nexport -p >{state}"]

    def run(self, commands):
        """Runs `commands` to their end, and gives what they wrote."""
        # A file, and no pipe, which would stay open for as long as something goes on in the background.
        output = self.directory / ".output"
        with output.open("w") as to:
            child = self.popen(commands, to)
        try:
            status = child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise Problem(f"goes on after {SECONDS} s:\n{output.read_text()}") from None
        if status:
            raise Problem(f"ended with {status}:\n{output.read_text()}")
        self.look()
        return output.read_text()

    def popen(self, commands, to):
        return subprocess.Popen(self.shell(commands), cwd=self.directory, env=self.environment,
                                stdin=subprocess.DEVNULL, stdout=to, stderr=to, start_new_session=True)

    def look(self):
        """Nothing has failed of which no status tells: parts of commands, and what is to go on."""
        if self.failed.exists():
            raise Problem(f"a part of a command failed: {self.failed.read_text()}")
        for child, output in self.running:
            if child.poll():
                raise Problem(f"what was to go on ended with {child.returncode}:\n{output.read_text()}")

    def start(self, commands, wanted):
        """Starts `commands`, and comes back when they have written what is wanted."""
        output = self.directory / f".output{len(self.running)}"
        with output.open("w") as to:
            child = self.popen(commands, to)
        self.running.append((child, output))
        end = time.monotonic() + SECONDS
        while wanted not in output.read_text():
            if child.poll() is not None or time.monotonic() > end:
                raise Problem(f"did not write `{wanted}`:\n{output.read_text()}")
            time.sleep(0.05)
        self.look()

    def check(self, config):
        """A config has to be good, and all that it names has to be there."""
        folder = self.directory / ".config"
        folder.mkdir(exist_ok=True)
        for name in FILES:
            if not (folder / name).exists():
                (folder / name).write_text(f"an-example-of-what-{name}-holds")
                (folder / name).chmod(0o600)
        if '"cert.pem"' in config or '"key.pem"' in config:
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                            "-days", "30", "-subj", "/CN=mcp.example.com", "-addext", "subjectAltName=DNS:mcp.example.com",
                            "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
                           check=True, stderr=subprocess.DEVNULL)
        (folder / "config.json").write_text(config)
        (folder / "config.json").chmod(0o600)
        done = subprocess.run(["sluicegate", "check", "config.json"], cwd=folder, env=self.environment | VARIABLES,
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise Problem(f"`sluicegate check` says of this config:\n{done.stdout}")


def whole(text, within):
    """A config that has the part in it that a page shows."""
    number = itertools.count(1)
    text = re.sub(r"<(64 hex digits|new|old)>", lambda _: f"{next(number):064x}", text).strip().rstrip(",")
    if text.startswith("{"):
        return text
    for key in reversed(within.split(".") if within else []):
        text = f'"{key}": {{ {text} }}'
    parts = [text]
    if '"proxy":' not in text:
        tokens = ", ".join(f'"{name}": "a-token-of-{name}-that-is-long-enough"' for name in ("dev", "me", "ops"))
        # Accounts at servers are connected at pages, and tokens of others exchanged.
        pages, kind = "", ""
        if any(f'"{key}":' in text for key in ("upstreamAuth", "requiresUserToken", "auth_strategy", "oauth")):
            pages = '"baseUrl": "https://mcp.example.com", '
            kind = '"kind": "oauth", "issuers": { "corp": { "issuer": "https://login.corp.example" } }, '
        parts.append(f'"proxy": {{ {pages}"auth": {{ {kind}"tokens": {{ {tokens} }} }} }}')
    if '"mcpServers":' not in text:
        parts.append('"mcpServers": { "docs": { "url": "http://127.0.0.1:3000/mcp" } }')
    return "{ " + ",\n".join(parts) + " }"


def expect(output, wanted):
    if wanted not in output:
        raise Problem(f"did not write `{wanted}`:\n{output}")


def console(page, text):
    """Runs each command of a block of `console`, and compares what it writes."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, wanted = part.partition("\n")
        pattern = ".*?".join(re.escape(piece) for piece in wanted.strip().split("…"))
        output = page.run(command)
        if not re.fullmatch(pattern, output.strip(), re.S):
            raise Problem(f"`{command}` wrote:\n{output}")


def judge(page, block, steps):
    """Does what a block asks for, and says in a word what that was."""
    marks, text = block.marks, block.text
    # A mark that says nothing of this block would be believed.
    of_language = {"in": "jsonc", "until": "sh", "says": "sh"}
    for mark in marks:
        if of_language.get(mark, block.language) != block.language:
            raise Problem(f"`{mark}` is for blocks of `{of_language[mark]}`")
    if "not run" in marks:
        return "not run"
    if "run by" in marks:
        if marks["run by"] not in steps:
            raise Problem(f".ci/run has no step {marks['run by']}")
        return "run by a step"
    if "file" in marks:
        (page.directory / marks["file"]).write_text(text)
        return "written"
    if block.language == "jsonc":
        page.check(whole(text, marks.get("in")))
        return "checked"
    if block.language in SHOWN:
        return "shown"
    if block.language == "console":
        console(page, text)
    elif block.language != "sh":
        raise Problem(f"nothing is known of blocks of `{block.language}`")
    elif "until" in marks:
        page.start(text, marks["until"])
    else:
        expect(page.run(text), marks.get("says", ""))
    return "run"


def alone():
    """Moves to a network of one's own, so that the ports of the documents are free. Without one, goes on as it is."""
    if "--inside" in sys.argv:
        with socket.socket() as any_socket:
            # SIOCGIFFLAGS, SIOCSIFFLAGS and IFF_UP of Linux.
            request = struct.pack("16sh14x", b"lo", 0)
            flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, 0x8913, request))[1]
            fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))
        return
    words = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") and subprocess.run([*words, "true"], stderr=subprocess.DEVNULL).returncode == 0:
        os.execvp("unshare", [*words, sys.executable, __file__, *sys.argv[1:], "--inside"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", default=PAGES, help="pages, by default all")
    parser.add_argument("--binary", default=os.environ.get("SLUICEGATE_BIN", "target/release/sluicegate"))
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    binary = (ROOT / arguments.binary).resolve()
    if not binary.exists():
        sys.exit(f"{binary} is not there; build it, or name another by --binary")
    alone()

    # Whatever loses its parent is this one's to end (PR_SET_CHILD_SUBREAPER).
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, lambda number, _: sys.exit(128 + number))
    steps = re.findall(r"^(\w+) +\d+ ", (ROOT / ".ci/run").read_text(), re.M)
    counts, problems = {}, []
    for name in arguments.pages:
        with tempfile.TemporaryDirectory() as directory:
            page = Page(Path(directory), binary)
            block = None
            try:
                for block in blocks((ROOT / name).read_text()):
                    outcome = judge(page, block, steps)
                    counts[outcome] = counts.get(outcome, 0) + 1
                page.look()
            except Problem as problem:
                # What follows on this page stands on what failed.
                problems.append(f"{name}:{block.line if block else 0}: {problem}")
            finally:
                end_all()
    print("\n".join(problems) or "blocks: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    sys.exit(bool(problems))


main()
