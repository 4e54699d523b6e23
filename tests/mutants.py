#!/usr/bin/env python3
"""Changes the code that decides, one place after the other, and looks whether a unit test of that module fails.

    tests/mutants.py                    all groups
    tests/mutants.py auth sessions      two of them
    tests/mutants.py framing --missed   only what survived before, or was not run: after new tests
    tests/mutants.py --only 'codec.rs.*Chunked'

The changes are those of cargo-mutants (`cargo install cargo-mutants`). It would build the library once for each. Here all are in
one build: each function gets a copy of its body for each change, and an environment variable says which copy runs. The few that
cannot be chosen so, in constants and `const fn`, are built one by one.

It works on a copy of the working tree in target/mutants. Results are kept there and merged: a later run of a mutant replaces an
earlier one. Survivors have their reasons in tests/mutants.md.
"""

import argparse
import fcntl
import fnmatch
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "mutants"
COPY = WORK / "src"
VARIABLE = "SLUICEGATE_MUTANT"
# A test that loops may also take memory.
MEMORY = 8 << 30

# Source files, each with the unit tests that have to notice a change in it.
GROUPS = {
    "auth": {"src/identity/**": "identity::", "src/secret.rs": "secret::"},
    "policy": {"src/policy/**": "policy::", "src/mcp/accept.rs": "mcp::accept"},
    "sessions": {"src/mcp/seal.rs": "mcp::seal"},
    "validation": {
        "src/downstream/head.rs": "downstream::head",
        "src/downstream/path.rs": "downstream::path",
        "src/mcp/header.rs": "mcp::header",
    },
    "framing": {
        "src/upstream/codec.rs": "upstream::codec",
        "src/upstream/raw.rs": "upstream::raw",
        "src/downstream/frames.rs": "downstream::frames",
        "src/downstream/hpack.rs": "downstream::hpack",
        "src/downstream/interim.rs": "downstream::interim downstream::frames",
        "src/mcp/sse/end.rs": "mcp::sse::end::",
        "src/mcp/sse/endpoint_guard.rs": "mcp::sse::endpoint",
    },
    "messages": {
        "src/mcp/walk/**": "mcp::walk mcp::reading mcp::scan",
        "src/mcp/reading/**": "mcp::reading mcp::message",
        "src/mcp/scan.rs": "mcp::scan",
    },
}
OUTCOMES = ("caught", "timeout", "missed", "unviable")

# Chooses the body that runs. It is put at the end of the copy's lib.rs.
CHOICE = """
pub(crate) fn active_mutant() -> u32 {
    static ACTIVE: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
        std::env::var("%s").ok().and_then(|number| number.parse().ok()).unwrap_or(0)
    });
    *ACTIVE
}
"""


def sync():
    """Brings the copy up to date. What is the same keeps its time, so that cargo builds only what changed."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    wanted = {name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()}
    for path in [path for path in COPY.rglob("*") if path.is_file()]:
        if str(path.relative_to(COPY)) not in wanted | {"Cargo.lock"}:
            path.unlink()
    for name in wanted:
        text = (ROOT / name).read_bytes()
        if name == "Cargo.toml":
            # It depends on the library, which would be built a second time for it.
            text = re.sub(rb"(?m)^test-support = .*\n", b"", text)
        if name != "Cargo.lock" or not (COPY / name).exists():
            write(COPY / name, text)


def write(path, content):
    content = content.encode() if isinstance(content, str) else content
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def list_mutants(groups):
    """What cargo-mutants would change in these groups."""
    rows = [(group, files, tests) for group in groups for files, tests in GROUPS[group].items()]
    command = ["cargo", "mutants", "--list", "--json"]
    for _, files, _ in rows:
        command += ["--file", files]
    listed = subprocess.run(command, cwd=COPY, check=True, capture_output=True).stdout
    return [
        mutant | {"group": group, "tests": tests}
        for group, files, tests in rows
        for mutant in json.loads(listed)
        if fnmatch.fnmatch(mutant["file"], files)
    ]


def blanked(text):
    """The text with comments, strings and characters made blank, so that braces in them do not count."""
    pattern = r"""//[^\n]* | /\*.*?\*/ | \bb?r(\#*)".*?"\1 | b?"(?:\\.|[^"\\])*" | b?'(?:\\.[^']*|[^'\\])'"""
    return re.sub(pattern, lambda found: re.sub(r"[^\n]", " ", found[0]), text, flags=re.S | re.X)


def is_opaque(mutant):
    """Whether it changes what a function returns as `impl Trait`, which has to be one type for all copies."""
    return mutant["genre"] == "FnValue" and "impl " in mutant["function"]["return_type"]


class Source:
    """A file with a copy of the body of each function for each of its mutants."""

    def __init__(self, text, chosen):
        self.text = text
        self.blank = blanked(text)
        self.starts = [0] + [found.end() for found in re.finditer("\n", text)]
        self.bodies = {}
        # Numbers of the mutants that cannot be chosen by a match.
        self.alone = []
        for number, mutant in chosen.items():
            body = self.body(mutant)
            if body is None or is_opaque(mutant):
                self.alone.append(number)
            else:
                self.bodies.setdefault(body, []).append((number, mutant))
        # Where each copy is in what `build` returned: (first line, last line, number).
        self.places = []

    def at(self, place):
        return self.starts[place["line"] - 1] + place["column"] - 1

    def span(self, span):
        return self.at(span["start"]), self.at(span["end"])

    def mutated(self, mutant, begin, end):
        at, to = self.span(mutant["span"])
        return self.text[begin:at] + " " + mutant["replacement"] + " " + self.text[to:end]

    def whole(self, mutant):
        return self.mutated(mutant, 0, len(self.text))

    def body(self, mutant):
        """Where the body of the mutant's function is, without its braces."""
        if not mutant["function"]:
            return None
        begin, end = self.span(mutant["function"]["span"])
        if re.search(r"\bconst\s+(unsafe\s+)?fn\b", self.blank[begin:end].split("{")[0]):
            return None
        end -= 1
        depth = 0
        for at in range(end, begin, -1):
            depth += {"}": 1, "{": -1}.get(self.blank[at], 0)
            if depth == 0:
                return at + 1, end
        raise ValueError(f"no body: {mutant['name']}")

    def build(self):
        """The whole text, with the bodies chosen by a match. Bodies may contain functions that have some as well."""
        ordered = sorted(self.bodies)
        out = []

        def copy(begin, end):
            at = begin
            for body in ordered:
                if at <= body[0] and body[1] <= end and (body[0], body[1]) != (begin, end):
                    out.append(self.text[at : body[0]])
                    choose(body)
                    at = body[1]
            out.append(self.text[at:end])

        def choose(body):
            out.append("match crate::active_mutant() {\n")
            for number, mutant in self.bodies[body]:
                out.append(f"{number} => {{ {self.mutated(mutant, *body)} }}\n")
                self.places.append((len(out) - 1, number))
            out.append("_ => {")
            copy(*body)
            out.append("} }\n")

        copy(0, len(self.text))
        lines = [0]
        for piece in out:
            lines.append(lines[-1] + piece.count("\n"))
        self.places = [(lines[index] + 1, lines[index + 1] + 1, number) for index, number in self.places]
        return "".join(out)


def cargo_environment():
    environment = dict(os.environ)
    environment.setdefault("CARGO_TARGET_DIR", str(WORK / "build"))
    # Nobody debugs these builds, and without that information each is faster.
    environment.update(CARGO_PROFILE_TEST_DEBUG="0", CARGO_PROFILE_DEV_DEBUG="0", CARGO_TERM_COLOR="never")
    return environment


def compile_tests():
    """The binary with the library's unit tests, and the errors: what they are about, all places of it, and a message."""
    done = subprocess.run(
        ["cargo", "test", "--quiet", "--lib", "--no-run", "--message-format", "json"],
        cwd=COPY,
        env=cargo_environment(),
        capture_output=True,
        text=True,
    )
    binary, errors = None, []
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message.get("executable"):
            binary = message["executable"]
        if message["reason"] == "compiler-message" and message["message"]["level"] == "error":
            spans = message["message"]["spans"]
            # The last error is only that there were some.
            if spans:
                primary = [span for span in spans if span["is_primary"]]
                places = [[(span["file_name"], span["line_start"]) for span in some] for some in (primary, spans)]
                errors.append((places, message["message"]["message"]))
    if not binary and not errors:
        sys.exit(done.stderr)
    return binary, errors


def run_tests(binary, tests, number, limit):
    """Whether a test fails: `caught`, `timeout` or `missed`."""
    environment = cargo_environment() | {
        VARIABLE: str(number),
        "CARGO_MANIFEST_DIR": str(COPY),
        # The first counterexample is enough.
        "PROPTEST_MAX_SHRINK_ITERS": "0",
    }
    # Elsewhere, so that proptest finds no place to keep counterexamples for the next mutant.
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [binary, "--quiet", *tests.split()],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        )
        try:
            return "missed" if process.wait(limit) == 0 else "caught"
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Results:
    """What became of each mutant, by group and name."""

    def __init__(self):
        self.file = WORK / "results.json"
        self.all = json.loads(self.file.read_text()) if self.file.exists() else {}

    def of(self, mutant):
        return self.all.get(mutant["group"], {}).get(mutant["name"])

    def add(self, mutant, outcome):
        self.all.setdefault(mutant["group"], {})[mutant["name"]] = outcome
        write(self.file, json.dumps(self.all, indent=1))
        if outcome == "missed":
            print(f"missed: {mutant['name']}", flush=True)


def limits(binary, chosen):
    """For each set of tests, how long it may take: far longer than it does now."""
    found = {}
    for tests in dict.fromkeys(mutant["tests"] for mutant in chosen):
        began = time.monotonic()
        if run_tests(binary, tests, 0, 600) != "missed":
            sys.exit(f"the tests of {tests} fail without any change")
        seconds = time.monotonic() - began
        found[tests] = max(20, 10 * seconds)
        print(f"{tests}: {seconds:.1f} s", flush=True)
    return found


def copies_at(sources, places):
    """The numbers of the mutants whose copies of a body are there."""
    return {
        number
        for file, line in places
        if file in sources
        for first, last, number in sources[file].places
        if first <= line <= last
    }


def build_all(chosen, texts, results):
    """One build with all mutants that it can have. Returns the binary, and which are in it and which are not, by number."""
    together = dict(enumerate(chosen, start=1))
    alone = {}
    lib = COPY / "src" / "lib.rs"
    library = lib.read_text()
    while True:
        sources = {}
        for name, text in texts.items():
            source = Source(text, {number: mutant for number, mutant in together.items() if mutant["file"] == name})
            write(COPY / name, source.build())
            sources[name] = source
            alone |= {number: together.pop(number) for number in source.alone}
        write(lib, library + CHOICE % VARIABLE)
        binary, errors = compile_tests()
        if binary:
            break
        bad = set()
        for (primary, places), message in errors:
            hit = copies_at(sources, primary) or copies_at(sources, places)
            if not hit & set(together):
                sys.exit(f"an error that belongs to no mutant: {places}: {message}")
            bad |= hit
        print(f"{len(bad)} mutants do not compile", flush=True)
        for number in bad:
            results.add(together.pop(number), "unviable")
    # Later builds replace it.
    binary = shutil.copy(binary, WORK / "tests")
    for name, text in texts.items():
        write(COPY / name, text)
    return binary, together, alone


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--missed", action="store_true", help="only what survived before, or was not run")
    parser.add_argument("--only", metavar="REGEX", help="only mutants with such a name")
    parser.add_argument("--report", action="store_true", help="only print what is known")
    arguments = parser.parse_args()
    if unknown := set(arguments.groups) - set(GROUPS):
        parser.error(f"no group {', '.join(unknown)}")
    groups = arguments.groups or list(GROUPS)

    WORK.mkdir(parents=True, exist_ok=True)
    lock = open(WORK / "lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another run is under way")
    sync()
    results = Results()
    every = list_mutants(groups)
    chosen = [
        mutant
        for mutant in every
        if re.search(arguments.only or "", mutant["name"])
        and not (arguments.missed and results.of(mutant) in ("caught", "timeout", "unviable"))
    ]
    if chosen and not arguments.report:
        run(chosen, results)
    report(groups, every, results)


def run(chosen, results):
    texts = {name: (COPY / name).read_text() for name in {mutant["file"] for mutant in chosen}}
    binary, together, alone = build_all(chosen, texts, results)
    print(f"{len(together)} mutants in one build, {len(alone)} to be built one by one", flush=True)
    limit = limits(binary, chosen)
    for number, mutant in together.items():
        results.add(mutant, run_tests(binary, mutant["tests"], number, limit[mutant["tests"]]))
    for mutant in alone.values():
        text = texts[mutant["file"]]
        write(COPY / mutant["file"], Source(text, {}).whole(mutant))
        binary, _ = compile_tests()
        results.add(mutant, run_tests(binary, mutant["tests"], 0, limit[mutant["tests"]]) if binary else "unviable")
        write(COPY / mutant["file"], text)


def report(groups, every, results):
    for group in groups:
        of_group = [mutant for mutant in every if mutant["group"] == group]
        count = {outcome: sum(results.of(mutant) == outcome for mutant in of_group) for outcome in OUTCOMES}
        viable = count["caught"] + count["timeout"] + count["missed"]
        unknown = len(of_group) - viable - count["unviable"]
        killed = 100 * (count["caught"] + count["timeout"]) / viable if viable else 0
        numbers = ", ".join(f"{number} {outcome}" for outcome, number in count.items())
        print(f"{group}: {viable} viable: {numbers}, {unknown} not run: {killed:.1f} % killed")


if __name__ == "__main__":
    main()
