"""Find out within seconds whether the hub can be reached: its own clients retry for minutes.

A host that cannot be reached is not tried again for a minute: a command that needs much of it, such
as `ric reproduce --dry-run`, waits once, and a session that goes on when the network is back is not
refused.
"""

from __future__ import annotations

import os
import threading
import time
from urllib.parse import urlsplit

from ric.errors import RicError

CONNECT_SECONDS = 3.0  # for the name look-up and the connection together
REMEMBERED_SECONDS = 60.0  # an unreachable host
DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
NO_DOWNLOAD_HINT = "--preset tiny needs no download."
# hosts and ports that could not be reached: when, and why
unreachable: dict[tuple[str, int], tuple[float, str]] = {}


def require_connection(
    what: str, hint: str, *, url: str | None = None, instead: str = NO_DOWNLOAD_HINT
) -> None:
    """Check that the hub answers before anything waits for it: one attempt, three seconds in all.

    Args:
        what: What is missing, with its size: `facebook/dino-vits16 (86.7 MB)`.
        hint: How to get it.
        url: The address to reach; None: the hub's (HF_ENDPOINT).
        instead: What needs no download, which is added to the hint; "" where that is in use.

    Raises:
        RicError: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set, or the host (or the proxy before
            it) cannot be reached.
    """
    hint = f"{hint.rstrip()} {instead}".rstrip()
    if variable := offline_variable():
        raise RicError(f"{what} is not on this machine, and {variable} is set.", hint)
    host, port = _host_to_reach(url or os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    reason = _why_unreachable(host, port)
    if reason is not None:
        raise RicError(
            f"{what} is not on this machine, and {host} cannot be reached: {reason}.", hint
        )


def no_download(preset: str) -> str:
    """Tell what needs no download; "" where the preset is that already."""
    return "" if preset == "tiny" else NO_DOWNLOAD_HINT


def offline_variable() -> str | None:
    """Return the name of the variable that keeps the hub's clients offline; None if unset."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"}:
            return variable
    return None


def _host_to_reach(endpoint: str) -> tuple[str, int]:
    """Return the endpoint's host and port, or those of the proxy that the environment sets."""
    from urllib.request import getproxies, proxy_bypass  # loads http and email

    target = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    if not proxy_bypass(target.hostname or ""):
        proxies = getproxies()
        proxy = proxies.get(target.scheme) or proxies.get("all")
        if proxy:
            target = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return target.hostname or endpoint, target.port or DEFAULT_PORTS.get(target.scheme, 80)


def _why_unreachable(host: str, port: int) -> str | None:
    """Try one connection, unless one has failed a short while ago; return why it fails, or None."""
    tried, reason = unreachable.get((host, port), (-REMEMBERED_SECONDS, None))
    if time.monotonic() - tried >= REMEMBERED_SECONDS:
        reason = _try(host, port)
        if reason is not None:
            unreachable[host, port] = (time.monotonic(), reason)
    return reason


def _try(host: str, port: int) -> str | None:
    import socket  # 3 ms that a start-up without downloads need not pay

    outcome: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
            outcome.append(None)
        except TimeoutError:
            pass
        except OSError as error:
            outcome.append(error.strerror or str(error))

    # getaddrinfo has no timeout, but a daemon thread can be abandoned
    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(CONNECT_SECONDS)
    return outcome[0] if outcome else f"no answer in {CONNECT_SECONDS:g} s"
