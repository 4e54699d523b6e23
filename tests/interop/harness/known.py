"""Where the suite cannot end the same through the gateway as straight at the server, and why.

An entry fails the run when the difference goes away or becomes another, so that the list cannot grow stale.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """`checks` are the ids of the checks that differ; None is for a scenario that cannot run at all."""

    checks: frozenset[str] | None
    why: str


PLAIN_SPOKEN = Known(None, "the suite speaks plain HTTP to the https port")
FORGED_HOST = Known(None, "the suite checks the certificate against its forged Host")

# The tool closes the HTTP stream of its own call. The servers of these ways have none to close, and just answer.
NOTHING_TO_CLOSE = Known(
    frozenset({"server-sse-disconnect-resume"}), "the server has no HTTP stream that it could close before it answers"
)

KNOWN = {
    ("https", "2025-11-25", "dns-rebinding-protection"): FORGED_HOST,
    ("https", "2026-07-28", "dns-rebinding-protection"): FORGED_HOST,
    ("https", "2026-07-28", "http-header-validation"): PLAIN_SPOKEN,
    ("https", "2026-07-28", "http-custom-header-server-validation"): PLAIN_SPOKEN,
    ("stdio", "2025-11-25", "server-sse-polling"): NOTHING_TO_CLOSE,
    ("sse", "2025-11-25", "server-sse-polling"): NOTHING_TO_CLOSE,
}
