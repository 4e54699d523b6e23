"""Runs the commands that the documents show, in the order of each page, and checks the configs that they show.

Of README.md, CONTRIBUTING.md and docs/**/*.md each fenced block is looked at. A comment in front of it says more:

    <!-- file: NAME -->         the block is what the file NAME holds
    <!-- in: KEY -->           the block (jsonc) is part of the object KEY of a config, such as mcpServers or proxy.auth
    <!-- until: TEXT -->       the commands go on running; the next block begins when they have written TEXT
    <!-- says: TEXT -->        the commands write TEXT, and end well
    <!-- run by: STEP -->      that step of .ci/run runs them
    <!-- not run: REASON -->   they cannot be run here

A block of `sh` without a comment has to end with 0. In a block of `console`, lines with `$ ` are commands and the others
what they write, where `…` stands for anything. Each page has a directory and a shell environment of its own; all run on a
loopback interface of their own where the system allows that. `npx` is a stand-in, since nothing is downloaded.
"""

import argparse
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
    "DEV_TOKEN", "NIGHT_TOKEN", "DOCS_API_KEY", "TEAM_TOKEN")}
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
            found.append(Block(number, stripped[3:], marks, "\n".join(body) + "\n"))
            marks = {}
        elif stripped:
            if marks:
                raise Problem(f"line {number}: a mark stands in front of no block")
    return found


class Page:
    """What runs for one page: a directory, an environment, and the commands that go on."""

    def __init__(self, directory, binary):
        self.directory, self.running, self.ready = directory, [], directory / ".environment"
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
        state = self.ready
        return ["bash", "-c", f"set -eo pipefail; [ ! -e {state} ] || . {state}\n{commands}\nexport -p >{state}"]

    def run(self, commands):
        """Runs `commands` to their end, and gives what they wrote."""
        done = subprocess.run(self.shell(commands), cwd=self.directory, env=self.environment, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=SECONDS, start_new_session=True)
        if done.returncode:
            raise Problem(f"ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def start(self, commands, wanted):
        """Starts `commands`, and comes back when they have written what is wanted."""
        output = self.directory / f".output{len(self.running)}"
        with output.open("w") as to:
            child = subprocess.Popen(self.shell(commands), cwd=self.directory, env=self.environment,
                                     stdin=subprocess.DEVNULL, stdout=to, stderr=to, start_new_session=True)
        self.running.append(child)
        end = time.monotonic() + SECONDS
        while wanted not in output.read_text():
            if child.poll() is not None or time.monotonic() > end:
                raise Problem(f"did not write `{wanted}`:\n{output.read_text()}")
            time.sleep(0.05)

    def check(self, config):
        """A config has to be good, and all that it names has to be there."""
        folder = self.directory / ".config"
        folder.mkdir(exist_ok=True)
        for name in FILES:
            if not (folder / name).exists():
                (folder / name).write_text(f"an-example-of-what-{name}-holds")
                (folder / name).chmod(0o600)
        if '"cert.pem"' in config:
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

    def end(self):
        """Ends what goes on."""
        for child in self.running:
            try:
                os.killpg(child.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        for child in self.running:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)


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
        parts.append(f'"proxy": {{ "auth": {{ "tokens": {{ {tokens} }} }} }}')
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
            except (Problem, subprocess.TimeoutExpired) as problem:
                # What follows on this page stands on what failed.
                problems.append(f"{name}:{block.line if block else 0}: {problem}")
            finally:
                page.end()
    print("\n".join(problems) or "blocks: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    sys.exit(bool(problems))


main()
