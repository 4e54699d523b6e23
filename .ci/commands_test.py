"""What `commands.py` says of pages whose commands fail, and what it leaves running."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# A time that no other process on this machine sleeps.
SLEEP = f"sleep {100_000 + os.getpid()}"
SCRIPT = Path(__file__).resolve().parent / "commands.py"
# Name, page, and what is said of it.
PAGES = [
    ("good", "```sh\nX=$(echo a) && export Y=\"$(echo b)\"\nif [ $Y = a ] || grep -q c <<<$Y; then false; fi\n"
             "cat <<end \\\n  -\nfalse && $Y\nend\nfalse || true\n```\n\n<!-- says: b -->\n```sh\necho $Y\n```\n", None),
    ("in front of &&", "```sh\nfalse && true\necho x\n```\n", "ended with 1"),
    ("at the end", "```sh\ntrue\nfalse && true\n```\n", "ended with 1"),
    ("of several lines", "```sh\nfalse &&\n  true\ntrue\n```\n", "ended with 1"),
    ("in a pipe", "```sh\nfalse | cat\ntrue\n```\n", "ended with 1"),
    ("in export", "```sh\nexport X=\"$(cat none)\"\n```\n", "a part of a command failed: cat none"),
    ("in an argument", "```sh\necho \"$(cat none)\"\n```\n", "a part of a command failed: cat none"),
    ("in a console", "```console\n$ false && true\n```\n", "ended with 1"),
    ("no end", "```sh\necho (\n```\n", "no command that ends"),
    ("what goes on fails", "<!-- until: ready -->\n```sh\necho $$ >pid; echo ready; exec SLEEP\n```\n\n"
                           "```sh\nkill -ABRT $(cat pid)\nuntil grep -q '^State:.Z' /proc/$(cat pid)/status; do true; done\n"
                           "```\n", "was to go on ended with -6"),
    ("mark of two lines", "<!-- says: x\n-->\n```sh\necho y\n```\n", "a mark is one line"),
    ("mark without meaning", "<!-- says: x -->\n```json\n{}\n```\n", "`says` is for blocks of `sh`"),
    ("block without end", "```sh\ntrue\n", "a block without an end"),
    ("in the background", "```sh\nsetsid SLEEP >/dev/null 2>&1 &\n```\n", None),
]


def is_left():
    return subprocess.run(["pgrep", "-f", SLEEP], stdout=subprocess.DEVNULL).returncode == 0


def main():
    failed = []
    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory) / "page.md"
        words = [sys.executable, SCRIPT, "--binary", shutil.which("true"), page]
        for name, text, wanted in PAGES:
            page.write_text(text.replace("SLEEP", SLEEP))
            done = subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if (done.returncode != 0) != (wanted is not None) or (wanted or "") not in done.stdout or is_left():
                failed.append(f"{name}: {done.stdout}")
        page.write_text(f"```sh\nsetsid {SLEEP}\n```\n")
        child = subprocess.Popen(words)
        while not is_left():
            time.sleep(0.01)
        child.send_signal(signal.SIGTERM)
        if child.wait(20) == 0 or is_left():
            failed.append("told to end")
    sys.exit("\n".join(failed) or 0)


main()
