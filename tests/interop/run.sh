#!/usr/bin/env bash
# Real clients against the gateway; see README.md. Arguments go to the runner.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
export INTEROP_CACHE=${INTEROP_CACHE:-$here/../../target/interop}
export PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1

"$here/install.sh" "$INTEROP_CACHE"
exec "$INTEROP_CACHE/venv/bin/python" -m harness "$@"
