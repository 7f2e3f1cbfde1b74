"""SQLAlchemy: an engine is its URL and its settings, a session without work its engine.

A database in memory is in this process only, a session with work in it has a
transaction, so both are refused. Event listeners are not in the copy.
"""

from __future__ import annotations

from typing import Any

from safemp.codec.libraries import called, loaded
from safemp.codec.repairs import RECONSTRUCT, RefusedError, Repair

__all__ = ["table"]


def _engine(engine: Any) -> Any:
    pool = engine.pool
    creator = pool._creator
    held = _closure(creator)
    options: dict[str, Any] = {"poolclass": type(pool), "pool_recycle": pool._recycle, "pool_pre_ping": pool._pre_ping}
    options |= {"echo": engine._echo, "hide_parameters": engine.hide_parameters, "pool_reset_on_return": None}
    options["pool_reset_on_return"] = {"reset_none": None}.get(
        pool._reset_on_return.name, pool._reset_on_return.name[6:]
    )
    if creator.__module__ == "sqlalchemy.engine.create" and held is not None:
        _, url_params = engine.dialect.create_connect_args(engine.url)
        cparams = {k: v for k, v in held["cparams"].items() if url_params.get(k, held) != v}
        if cparams:
            options["connect_args"] = cparams
        if _in_memory(engine.url):
            raise RefusedError(
                "cannot pickle an engine whose database is in the memory of this process",
                "use a database file: create_engine('sqlite:///path')",
            )
    else:
        options["creator"] = creator
    if hasattr(pool, "_max_overflow"):
        queue = pool._pool
        options |= {"pool_size": queue.maxsize, "max_overflow": pool._max_overflow, "pool_timeout": pool._timeout}
        options["pool_use_lifo"] = queue.use_lifo
    elif hasattr(pool, "size") and type(pool).__name__ == "SingletonThreadPool":
        options["pool_size"] = pool.size
    dialect = engine.dialect
    isolation = getattr(dialect, "_on_connect_isolation_level", None)
    if isolation is not None:
        options["isolation_level"] = isolation
    return called(loaded("sqlalchemy.engine.create", "create_engine"), engine.url, **options)


def _closure(function: Any) -> dict[str, Any] | None:
    code = getattr(function, "__code__", None)
    if code is None or "cparams" not in code.co_freevars:
        return None
    return {name: cell.cell_contents for name, cell in zip(code.co_freevars, function.__closure__, strict=True)}


def _in_memory(url: Any) -> bool:
    return bool(
        url.get_backend_name() == "sqlite" and (url.database in (None, "", ":memory:") or "mode=memory" in str(url))
    )


def _async_engine(engine: Any) -> Any:
    return type(engine), (engine.sync_engine,)


def _session(session: Any) -> Any:
    if session.new or session.dirty or session.deleted or session.in_transaction():
        raise RefusedError(
            "cannot pickle a Session with a transaction or objects that are not saved",
            "send the sessionmaker, and make the session in the task: with Session() as session",
        )
    names = ("bind", "autoflush", "expire_on_commit", "info")
    options = {name: getattr(session, name) for name in names if getattr(session, name, None) not in (None, {})}
    binds = session.__dict__.get("binds") or session.__dict__.get("_Session__binds") or {}
    return called(type(session), binds=dict(binds) or None, **options)


def _maker(maker: Any) -> Any:
    """``class_`` was derived on the spot from the class that was given."""
    return called(type(maker), class_=maker.class_.__mro__[1], **maker.kw)


def _scoped(scoped: Any) -> Any:
    return type(scoped), (scoped.session_factory,)


def table() -> dict[type, Repair]:
    """Return the rules."""
    engine = "it has the same URL and settings, and a pool of connections of its own"
    session = "nothing is under way in it, so it is its engine and its settings"
    return {
        loaded("sqlalchemy.engine.base", "Engine"): Repair(RECONSTRUCT, engine, _engine),
        loaded("sqlalchemy.ext.asyncio.engine", "AsyncEngine"): Repair(RECONSTRUCT, engine, _async_engine),
        loaded("sqlalchemy.orm.session", "Session"): Repair(RECONSTRUCT, session, _session),
        loaded("sqlalchemy.orm.session", "sessionmaker"): Repair(
            RECONSTRUCT, "it has the same engine and settings", _maker
        ),
        loaded("sqlalchemy.orm.scoping", "scoped_session"): Repair(
            RECONSTRUCT, "it has the same factory; each thread there gets its own session", _scoped
        ),
    }
