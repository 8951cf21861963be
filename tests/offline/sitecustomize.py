"""Cuts every Python process off the network, and keeps an account: this machine may be reached, nothing else.

Python imports a module of this name when it starts. With this folder on ``PYTHONPATH`` the guard is in a command, in
the kernels and workers it starts and in theirs. ``NANH2_NETWORK_LOG`` names a file that gets one line for each process
that is watched and one for each connection or name look-up that was refused.

The hook sits below the module ``socket``, where nobody patches it away. It does not see sockets that a library in C
opens by itself (ZeroMQ between notebook and kernel, libpq).
"""

from __future__ import annotations

import os
import sys
from typing import Any

LOCAL_NAMES = {"", "localhost", "ip6-localhost", "0.0.0.0", "::", "::1", os.uname().nodename}
LOG = os.environ.get("NANH2_NETWORK_LOG", "")


def is_local(host: Any) -> bool:
    """Whether a host is this machine: loopback, its own name, or no host at all (a socket in the file system)."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    return name is None or name in LOCAL_NAMES or str(name).startswith("127.")


def note(line: str) -> None:
    """Append a line in one write, so that lines of several processes do not mix."""
    if LOG:
        program = " ".join(" ".join(sys.orig_argv).split())[:200]
        handle = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, f"{line} | process {os.getpid()}: {program}\n".encode())
        finally:
            os.close(handle)


def guard(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse what would leave the machine, as if no cable were plugged in."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) and address else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if not is_local(host):
        note(f"refused {event} {host!s}")
        raise OSError(101, f"network is unreachable: {event} to {host!s} (tests/offline)")


sys.addaudithook(guard)
note("watched")
