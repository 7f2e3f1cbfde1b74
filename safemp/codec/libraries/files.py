"""Open files and database connections: opened again where the user has asked for it.

That touches the world, so it is the one kind of repair that is not made unasked. Without
it only the standard streams travel: each process has its own.
"""

from __future__ import annotations

import os
from functools import partial
from io import BufferedRandom, BufferedReader, FileIO, TextIOWrapper
from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.repairs import REOPEN, RefusedError, Repair, standard_stream

__all__ = ["table"]


def _text(file: Any) -> Any:
    try:
        return standard_stream(file)
    except TypeError:
        raw = file.buffer
    return _at(file, partial(open, _path(raw), file.mode, encoding=file.encoding, errors=file.errors), file.tell())


def _binary(file: Any) -> Any:
    return _at(file, partial(open, _path(file), "rb"), file.tell())


def _raw(file: Any) -> Any:
    return _at(file, partial(open, _path(file), "rb", buffering=0), file.tell())


def _at(file: Any, opened: Any, position: int) -> Any:
    return (opened, (), position, None, None, type(file).seek) if position else (opened, ())


def _path(file: Any) -> str:
    if file.closed:
        raise RefusedError("cannot pickle a closed file", "send its path")
    if file.writable() or not file.readable():
        raise RefusedError("cannot pickle a file that is open for writing: two would write over each other")
    if not isinstance(file.name, str):
        raise RefusedError("cannot pickle a file without a path")
    return file.name


def _temporary(file: Any) -> Any:
    """Open the file under its name, for reading; who made it removes it."""
    inner = file.file
    if getattr(file, "delete", False) and (inner.closed or inner.writable()):
        raise RefusedError(
            "cannot pickle a temporary file that is open for writing",
            "flush() it and send its path (.name); the task opens it",
        )
    return (_text if isinstance(inner, TextIOWrapper) else _binary)(inner)


def _sqlite(connection: Any) -> Any:
    """Connect to the same file; what is not committed stays here, so it is refused."""
    if connection.in_transaction:
        raise RefusedError("cannot pickle a sqlite3 connection inside a transaction", "commit() first")
    cursor = connection.cursor()
    cursor.row_factory = None  # the connection's may make anything of a row, and its text_factory of a text
    cursor.execute("select cast(file as blob) from pragma_database_list where name = 'main'")
    path = os.fsdecode(cursor.fetchone()[0])
    if not path:
        raise RefusedError("cannot pickle a sqlite3 connection to memory", "send list(connection.iterdump())")
    state = {name: getattr(connection, name) for name in ("isolation_level", "row_factory", "text_factory")}
    return type(connection), (path,), (None, state)


def table() -> dict[type, Repair]:
    """Return the rules."""
    again = "it is opened for reading again, at its position; the file is the same on this machine"
    return {
        TextIOWrapper: Repair(REOPEN, again, _text),
        BufferedReader: Repair(REOPEN, again, _binary),
        BufferedRandom: Repair(REOPEN, again, _binary),
        FileIO: Repair(REOPEN, again, _raw),
        loaded("tempfile", "_TemporaryFileWrapper"): Repair(REOPEN, again, _temporary),
        loaded("sqlite3", "Connection"): Repair(
            REOPEN, "it connects to the same file; nothing was uncommitted", _sqlite
        ),
    }
