"""pymongo: a client is what its constructor was given, and connects again.

Databases travel as they are, and collections are made again of theirs.
"""

from __future__ import annotations

from typing import Any

from safemp.codec.libraries import called, loaded
from safemp.codec.repairs import RECONSTRUCT, RefusedError, Repair

__all__ = ["table"]


def _client(client: Any) -> Any:
    given = getattr(client, "_init_kwargs", None)
    if given is None:
        raise RefusedError(
            "cannot pickle this MongoClient: its version does not keep what it was made from",
            "make it in the task or in an initializer: MongoClient(uri)",
        )
    return called(type(client), **given)


def _collection(collection: Any) -> Any:
    names = ("codec_options", "read_preference", "write_concern", "read_concern")
    options = {name: getattr(collection, name) for name in names}
    return called(type(collection), collection.database, collection.name, **options)


def _cursor(_: Any) -> Any:
    raise RefusedError("cannot pickle a cursor: the server keeps its state for one connection", "send list(...) of it")


def _session(_: Any) -> Any:
    raise RefusedError("cannot pickle a session of a MongoClient", "start it in the task: client.start_session()")


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "it is made from the same arguments, and has connections of its own"
    return {
        loaded("pymongo.synchronous.mongo_client", "MongoClient"): Repair(RECONSTRUCT, why, _client),
        loaded("pymongo.asynchronous.mongo_client", "AsyncMongoClient"): Repair(RECONSTRUCT, why, _client),
        loaded("pymongo.synchronous.collection", "Collection"): Repair(RECONSTRUCT, why, _collection),
        loaded("pymongo.asynchronous.collection", "AsyncCollection"): Repair(RECONSTRUCT, why, _collection),
        loaded("pymongo.synchronous.cursor", "Cursor"): Repair(RECONSTRUCT, "", _cursor, family=True),
        loaded("pymongo.synchronous.client_session", "ClientSession"): Repair(RECONSTRUCT, "", _session),
    }
