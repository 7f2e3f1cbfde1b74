"""``ssl.SSLContext`` as libraries make it: the default, with a few settings.

A context does not say how it was made. What can be read of it is compared with what
``ssl.create_default_context()`` gives, and each difference is set again; certificates
of authorities are public, and travel when they are not those of the system or of
certifi. A private key cannot be read, so a context for servers is refused; one of a
client's (``load_cert_chain``) leaves no trace at all, and is not in the copy.
"""

from __future__ import annotations

import enum
import ssl
from functools import partial
from operator import getitem
from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.rebuild import Made
from safemp.codec.repairs import RECONSTRUCT, RefusedError, Repair

__all__ = ["FIX", "ciphers_of", "settings_of", "table"]

FIX = "make it in the task or in an initializer: ssl.create_default_context()"


class _Stores:
    """The certificates of the authorities that contexts are made with by default."""

    system: frozenset[bytes] | None = None
    certifi: frozenset[bytes] | None = None


def _system() -> frozenset[bytes]:
    if _Stores.system is None:
        _Stores.system = frozenset(ssl.create_default_context().get_ca_certs(binary_form=True))
    return _Stores.system


def _certifi() -> frozenset[bytes]:
    if _Stores.certifi is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(loaded("certifi", "where")())
        _Stores.certifi = frozenset(context.get_ca_certs(binary_form=True))
    return _Stores.certifi


def _default(**authorities: Any) -> Any:
    return partial(ssl.create_default_context, **authorities)


def _maker(context: ssl.SSLContext) -> Any:
    """Return what makes a context with the same authorities."""
    found = frozenset(context.get_ca_certs(binary_form=True))
    if not found and (context.verify_mode == ssl.CERT_NONE or _system()):
        return partial(ssl.SSLContext, ssl.PROTOCOL_TLS_CLIENT)
    if loaded("certifi", "where") is not None and found == _certifi():
        return _default(cafile=Made(loaded("certifi", "where")))
    if found == _system():
        return ssl.create_default_context
    return _default(cadata=b"".join(sorted(found)))


def settings_of(context: ssl.SSLContext) -> dict[str, Any]:
    """Read the settings, in the order in which they can be set.

    Raises:
        RefusedError: Some cannot be read.
    """
    if context.protocol not in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS):
        raise RefusedError("cannot pickle the SSLContext of a server: its private key cannot be read", FIX)
    if context.sni_callback is not None or getattr(context, "_msg_callback", None) is not None:
        raise RefusedError("cannot pickle an SSLContext with callbacks", FIX)
    checks = ["check_hostname", "verify_mode"]
    names = [*(checks[::-1] if context.check_hostname else checks), "options", "minimum_version", "maximum_version"]
    names += ["verify_flags", "post_handshake_auth"]
    # As plain numbers: in Python 3.10 flags that are combined do not pickle.
    return {n: int(v) if isinstance(v := getattr(context, n), enum.IntFlag) else v for n in names}


class _Ciphered:
    """Stands in a reduce value for what *make* gives, once its ciphers are set."""

    def __init__(self, make: Any, ciphers: str) -> None:
        self._reduced = make, (), ciphers, None, None, ssl.SSLContext.set_ciphers

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


def ciphers_of(context: ssl.SSLContext) -> str | None:
    """Return what sets the ciphers that *context* has; ``None`` if they are the default.

    Raises:
        RefusedError: They cannot be set so.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if _told(made) == _told(context):
        return None
    names = [c["name"] for c in context.get_ciphers() if c["protocol"] != "TLSv1.3"]  # which are always there
    text = f"{':'.join(names)}:@SECLEVEL={context.security_level}"
    made.set_ciphers(text)
    if _told(made) != _told(context):
        raise RefusedError("cannot pickle an SSLContext whose ciphers cannot be set by their names", FIX)
    return text


def _told(context: ssl.SSLContext) -> tuple[Any, ...]:
    return context.security_level, [c["name"] for c in context.get_ciphers()]


def _context(context: ssl.SSLContext) -> Any:
    state = settings_of(context)
    if context.sslsocket_class is not ssl.SSLSocket or context.sslobject_class is not ssl.SSLObject:
        raise RefusedError("cannot pickle an SSLContext that makes sockets of a class of its own", FIX)
    ciphers = ciphers_of(context)
    if ciphers is not None:
        return getitem, ((_Ciphered(_maker(context), ciphers),), 0), (context.__dict__ or None, state)
    return _maker(context), (), (context.__dict__ or None, state)


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = (
        "the settings that can be read are set again, authorities included; a client's own "
        "certificate cannot be read, and is not in the copy"
    )
    return {ssl.SSLContext: Repair(RECONSTRUCT, why, _context)}
