"""httpx and httpx2, and so openai and anthropic: clients travel as they are, their pools without connections.

A client is its settings (headers, cookies, timeouts, hooks), its transports and their
pools of connections. Only a pool holds sockets, so only the pool is mended: the copy
has the same limits and proxy, and connects when it first has something to send.
``copyreg`` does the rest, for clients derived from these, too.
"""

from __future__ import annotations

import copyreg
import ssl
from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.libraries.tls import FIX, ciphers_of, settings_of
from safemp.codec.repairs import REBUILD, RECONSTRUCT, RefusedError, Repair

__all__ = ["table"]

_newobj: Any = copyreg.__newobj__  # type: ignore[attr-defined]


def _pool(pool: Any) -> Any:
    return _newobj, (type(pool),), pool.__dict__ | {"_connections": [], "_requests": []}


def _auto_backend(backend: Any) -> Any:
    """It has chosen asyncio or trio for this process; the copy chooses again."""
    cls: Any = type(backend)
    return cls, ()


def _truststore(context: Any) -> Any:
    """Ask the operating system about certificates, as here."""
    if ciphers_of(context._ctx) is not None:
        raise RefusedError("cannot pickle an SSLContext with ciphers of its own", FIX)
    return type(context), (ssl.PROTOCOL_TLS_CLIENT,), (None, settings_of(context._ctx))


def table() -> dict[type, Repair]:
    """Return the rules."""
    fresh = "it has the same limits, proxy and TLS settings, and connections of its own"
    rules: dict[Any, Repair] = {}
    for package in ("httpcore", "httpcore2"):
        for which, name in (("_sync", "ConnectionPool"), ("_async", "AsyncConnectionPool")):
            cls = loaded(f"{package}.{which}.connection_pool", name)
            rules[cls] = Repair(RECONSTRUCT, fresh, _pool, family=True)
        backend = loaded(f"{package}._backends.auto", "AutoBackend")
        rules[backend] = Repair(REBUILD, "it finds out again which event loop it is in", _auto_backend)
    rules[loaded("truststore._api", "SSLContext")] = Repair(
        RECONSTRUCT, "it asks the operating system about certificates, with the same settings", _truststore
    )
    return rules
