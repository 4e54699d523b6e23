"""The documents say what the code does, as far as a program can tell. What they show is run by commands.py."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATTERNS = ["*.md", "docs/**/*.md", "tests/*.md", "tests/*/*.md", "loadtest/*.md", "fuzz/*.md", "examples/*.md"]
DOCUMENTS = sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern)})
COMMANDS = {"README.md": ["cargo run --release -- demo"], "CONTRIBUTING.md": ["cargo test"]}
MOST_LINES = {"README.md": 200, "ARCHITECTURE.md": 200}

problems = []
texts = {str(path.relative_to(ROOT)): path.read_text() for path in DOCUMENTS}


def page(name: str) -> str:
    """The text of a document, which has to be there."""
    if name not in texts:
        problems.append(f"{name} is missing")
    return texts.get(name, "")


for name, commands in COMMANDS.items():
    for command in commands:
        if command not in page(name).splitlines():
            problems.append(f"{name}: no line `{command}`")
for name, most in MOST_LINES.items():
    if (lines := page(name).count("\n")) > most:
        problems.append(f"{name}: {lines} lines, of {most} at most: what is more belongs into docs/")

least = re.search(r'^rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
for name in COMMANDS:
    if f"Rust {least} or newer" not in page(name):
        problems.append(f"{name}: Cargo.toml asks for Rust {least}")


def config_keys(text: str) -> set[str]:
    """Paths of all keys in the reference of the config, which a test compares with the table in the code."""
    found: set[str] = set()
    parent = ""
    for line in text.splitlines():
        if heading := re.match(r"## `?([^`]+)", line):
            parent = "" if heading[1] == "The file" else heading[1] + "."
        elif key := re.match(r"\| ((?:`[^`]+`(?: or )?)+) \| .* \|$", line):
            found |= {parent + name for name in re.findall("`([^`]+)`", key[1])}
    return found


def anchors(text: str) -> set[str]:
    """What links into a document can name: its headings, as GitHub makes them, and anchors in HTML."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)", text, re.M)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)"', text))


known_keys = config_keys(page("docs/config.md"))
codes = set(re.findall(r'^ +\w+: \w+, [A-Z_]+, "(\w+)"', (ROOT / "src/error.rs").read_text(), re.M))
metric_calls = r'\b(?:counters?|gauges?|seconds)\(\s*"(\w+)"'
metrics = set(re.findall(metric_calls, (ROOT / "src/observe/metrics.rs").read_text()))
described = [
    ("config key", known_keys, "docs/config.md"),
    ("error code", codes, "docs/http.md"),
    ("metric", metrics, "docs/operate.md"),
]
for what, names, where in described:
    if not names:
        problems.append(f"found no {what}; does {Path(__file__).name} still read the right place?")
    for name in sorted(names):
        if not re.search(rf"(?<!\w){re.escape(name.rpartition('.')[2])}(?!\w)", page(where)):
            problems.append(f"{where}: {what} {name} is not described")


def check_link(document: str, folder: Path, link: str, anchor: str) -> None:
    """A link leads to a file that is there, and to a place in it that is there."""
    target = folder / link if link else ROOT / document
    if not target.exists():
        problems.append(f"{document}: {link} does not exist")
    elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
        problems.append(f"{document}: {link}#{anchor} leads nowhere")


links = 0
for document, text in texts.items():
    prose = re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    for link, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", prose):
        if "://" not in link:
            links += 1
            check_link(document, (ROOT / document).parent, link, anchor)
# Pages that the code names, in messages and in comments.
for folder in ("src", "tests", "benches", "examples", ".ci", "loadtest"):
    for file in (ROOT / folder).rglob("*"):
        if file.suffix in {".rs", ".py", ".sh", ".json"} and not {"node_modules", "target", "out", ".venv"} & set(file.parts):
            for link, anchor in re.findall(r"\b(docs/[\w/-]+\.md)(?:#([\w-]+))?", file.read_text()):
                links += 1
                check_link(str(file.relative_to(ROOT)), ROOT, link, anchor)


# Keys and messages that pages name, in backticks: `proxy.tls` is a key, `Config reloaded` is a message of the log.
code = "\n".join(file.read_text() for file in (ROOT / "src").rglob("*.rs"))
code = re.sub(r"\\\n\s*", "", code)
messages = 0
for document in ("README.md", *(name for name in texts if re.fullmatch(r"docs/[\w-]+\.md", name))):
    for named in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page(document), flags=re.M | re.S)):
        if re.fullmatch(r"proxy(\.[A-Za-z]+)+", named) and not any(key == named or key.startswith(named + ".") for key in known_keys):
            problems.append(f"{document}: {named} is no key of the config")
        elif re.fullmatch(r"[A-Z][a-z]+'?s? [a-z][\w' ,;:-]+", named):
            messages += 1
            if named not in code:
                problems.append(f"{document}: the code has no message `{named}`")


def map_of(text: str) -> list[list[str]]:
    """The modules of the map in their rows: what stands in the second column, in backticks."""
    table = re.split(r"\n(?!(?://! )?\|)", text.partition("| row | modules |")[2])[0]
    rows = re.findall(r"^(?://! )?\|(?: [\w ]*)? \| (.*?) \|", table, re.M)
    return [names for row in rows if (names := re.findall(r"`(\w+)`", row))]


drawn, real = map_of(page("ARCHITECTURE.md")), map_of((ROOT / "src/lib.rs").read_text())
if not real or drawn != real:
    problems.append(f"ARCHITECTURE.md: the map has {drawn}; src/lib.rs has {real}")

# Paths of the source that ARCHITECTURE.md names, as `module::file` or `module::item`.
for named in re.findall(r"`((?:\w+::)+\w+)`", page("ARCHITECTURE.md")):
    *outer, last = named.split("::")
    parent, there = ROOT.joinpath("src", *outer), ROOT.joinpath("src", *outer, last)
    homes = [file for file in (parent.with_suffix(".rs"), parent / "mod.rs") if file.exists()]
    is_module = there.is_dir() or there.with_suffix(".rs").exists()
    if not is_module and not any(re.search(rf"\b(fn|struct|enum|mod|static|const) {last}\b", home.read_text()) for home in homes):
        problems.append(f"ARCHITECTURE.md: {named} is not in the source")

# What SECURITY.md says that shows a promise has to be there.
sources = [ROOT / "src", ROOT / "tests", ROOT / "benches"]
tests = {
    name
    for folder in sources
    for file in folder.rglob("*.rs")
    for name in re.findall(r"#\[(?:tokio::)?test[^\]]*\]\s*(?:async )?fn (\w+)", file.read_text())
}
for named in re.findall(r"`([^`]+)`", page("SECURITY.md").partition("shown by")[2]):
    if "/" in named and not (ROOT / named).exists():
        problems.append(f"SECURITY.md: {named} does not exist")
    elif named.count("_") > 2 and "/" not in named and named not in tests:
        problems.append(f"SECURITY.md: there is no test {named}")

print("\n".join(problems) or f"{len(known_keys)} keys, {len(codes)} error codes and {len(metrics)} metrics are described; {messages} messages are the code's; {links} links lead somewhere")
sys.exit(bool(problems))
