"""Both SDKs' servers, each on both transports, as the SDK clients and the Inspector meet them."""

from pathlib import Path

from . import upstreams
from .certificates import Certificates
from .children import Children
from .gate import Entry, direct, through_gate

MODERN = "2026-07-28"

# What a client of each era must have negotiated with each server: only the Python one knows the modern era.
EXPECTED = {
    ("python", "legacy"): "2025-11-25",
    ("python", "auto"): MODERN,
    ("python", "modern"): MODERN,
    ("typescript", "legacy"): "2025-11-25",
    ("typescript", "auto"): "2025-11-25",
}


async def start(
    children: Children, folder: Path, piece: str, binary: str | None, certificates: Certificates
) -> Entry:
    """Servers named `python-http`, `python-sse`, `typescript-http` and `typescript-sse`."""
    fixture = await upstreams.fixture(children, f"fixture-{piece}")
    servers = {
        "python-http": f"{fixture}/mcp",
        "python-sse": f"{fixture}/sse",
        "typescript-http": await upstreams.everything(children, "streamableHttp") + "/mcp",
        "typescript-sse": await upstreams.everything(children, "sse") + "/sse",
    }
    if binary is None:
        return direct(servers)
    return await through_gate(children, folder, f"gate-{piece}", binary, servers, certificates)
