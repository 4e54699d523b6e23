"""The documents say what the code does, as far as a program can tell."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md", "docs/config.md", "docs/balancers.md", "docs/troubleshooting.md"]
COMMANDS = ["cargo run --release -- demo", "cargo test"]

problems = []
texts = {}
for name in DOCUMENTS:
    path = ROOT / name
    if path.exists():
        texts[name] = path.read_text()
    else:
        problems.append(f"{name} is missing")
readme = texts.get("README.md", "")

for command in COMMANDS:
    if command not in readme.splitlines():
        problems.append(f"README.md: no line `{command}`")


def config_keys(page: str) -> set[str]:
    """Paths of all keys in the reference of the config, which a test compares with the table in the code."""
    found: set[str] = set()
    parent = ""
    for line in page.splitlines():
        if heading := re.match(r"## `?([^`]+)", line):
            parent = "" if heading[1] == "The file" else heading[1] + "."
        elif key := re.match(r"\| ((?:`[^`]+`(?: or )?)+) \| .* \|$", line):
            found |= {parent + name for name in re.findall("`([^`]+)`", key[1])}
    return found


def anchors(text: str) -> set[str]:
    """What links into a document can name: its headings, as GitHub makes them, and anchors in HTML."""
    headings = re.findall(r"^#+ (.*)", text, re.M)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)"', text))


known_keys = config_keys(texts.get("docs/config.md", ""))
overview = readme.partition("## Config reference")[2].partition("\n#")[0]
named_keys = {name for cell in re.findall(r"^\| (`.*?) \| ", overview, re.M) for name in re.findall("`([^`]+)`", cell)}
for name in sorted(named_keys - known_keys):
    problems.append(f"README.md: {name} is no key of the config")
codes = set(re.findall(r'^ +\w+: \w+, [A-Z_]+, "(\w+)"', (ROOT / "src/error.rs").read_text(), re.M))
metric_calls = r'\b(?:counters?|gauge|IntGaugeVec::new\(Opts::new|HistogramOpts::new)\(\s*"(\w+)"'
metrics = set(re.findall(metric_calls, (ROOT / "src/observe/metrics.rs").read_text()))
for what, names in {"config key": known_keys, "error code": codes, "metric": metrics}.items():
    if not names:
        problems.append(f"found no {what}; does {Path(__file__).name} still read the right place?")
for what, names in {"error code": codes, "metric": metrics}.items():
    for name in sorted(names):
        if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", readme):
            problems.append(f"README.md: {what} {name} is not described")

for document, text in texts.items():
    for link, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text):
        if "://" in link:
            continue
        target = (ROOT / document).parent / link if link else ROOT / document
        if not target.exists():
            problems.append(f"{document}: {link} does not exist")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
            problems.append(f"{document}: {link}#{anchor} leads nowhere")

# What SECURITY.md says that shows a promise has to be there.
sources = [ROOT / "src", ROOT / "tests", ROOT / "benches"]
tests = {
    name
    for folder in sources
    for file in folder.rglob("*.rs")
    for name in re.findall(r"#\[(?:tokio::)?test[^\]]*\]\s*(?:async )?fn (\w+)", file.read_text())
}
for named in re.findall(r"`([^`]+)`", texts.get("SECURITY.md", "").partition("shown by")[2]):
    if "/" in named and not (ROOT / named).exists():
        problems.append(f"SECURITY.md: {named} does not exist")
    elif named.count("_") > 2 and "/" not in named and named not in tests:
        problems.append(f"SECURITY.md: there is no test {named}")

print("\n".join(problems) or f"{len(known_keys)} keys, {len(codes)} error codes and {len(metrics)} metrics are described")
sys.exit(bool(problems))
