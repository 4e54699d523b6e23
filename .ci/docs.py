"""The documents say what the code does, as far as a program can tell."""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md"]
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


def keys(schema: object) -> set[str]:
    """Names of all properties, at any depth."""
    found: set[str] = set()
    if isinstance(schema, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            found |= properties.keys()
        for value in schema.values():
            found |= keys(value)
    elif isinstance(schema, list):
        for value in schema:
            found |= keys(value)
    return found


schema_keys = keys(json.loads((ROOT / "src/config/schema.json").read_text()))
codes = set(re.findall(r'^ +\w+: \w+, [A-Z_]+, "(\w+)"', (ROOT / "src/error.rs").read_text(), re.M))
metric_calls = r'\b(?:counters?|gauge|IntGaugeVec::new\(Opts::new|HistogramOpts::new)\(\s*"(\w+)"'
metrics = set(re.findall(metric_calls, (ROOT / "src/observe/metrics.rs").read_text()))
for what, names in {"config key": schema_keys, "error code": codes, "metric": metrics}.items():
    if not names:
        problems.append(f"found no {what} in the code; does {Path(__file__).name} still read the right place?")
    for name in sorted(names):
        if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", readme):
            problems.append(f"README.md: {what} {name} is not described")

for document, text in texts.items():
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in link and not (ROOT / link).exists():
            problems.append(f"{document}: {link} does not exist")

# What SECURITY.md says that shows a promise has to be there.
sources = [ROOT / "tests", ROOT / "benches"]
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

print("\n".join(problems) or f"{len(schema_keys)} keys, {len(codes)} error codes and {len(metrics)} metrics are described")
sys.exit(bool(problems))
