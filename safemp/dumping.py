"""``dumps`` and ``loads`` with the repairs, and cloudpickle with them, for who has a transport already.

What ``dumps`` writes is a plain pickle: ``pickle.loads`` loads it. Where functions and
classes of ``__main__`` are in it, cloudpickle must be there; safemp need not, except for
exceptions with a traceback, a cause or attributes that pickle loses.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from safemp.codec import calls, pickling
from safemp.codec.repairs import Spec, policy_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pickle import PickleBuffer

    from safemp.codec.frames import Buffer

__all__ = ["dump", "dumps", "load", "loads", "repairing"]


def dumps(obj: Any, *, repairs: Spec = "all", buffer_callback: Callable[[PickleBuffer], Any] | None = None) -> bytes:
    """Pickle *obj*, mending what pickle cannot copy, by value what cannot be imported.

    Args:
        obj: What to pickle. Paths in errors begin with ``obj``.
        repairs: As for ``SafeExecutor``.
        buffer_callback: As for ``pickle.dumps``.

    Returns:
        A pickle of protocol 5, for ``pickle.loads`` or ``safemp.loads``.

    Raises:
        PreflightError: Something in it cannot be pickled; ``culprits`` says what.
    """
    policy = policy_of(repairs)
    try:
        return pickling.dumps_portable(obj, buffer_callback, policy=policy)
    except pickling.USER_ERRORS as error:
        failure = calls.preflight(error, [("obj", obj)], None, policy)
        try:
            found = calls.attributes_of_modules(failure.culprits, policy)
            if found is None or buffer_callback is not None:  # which has had buffers already
                raise failure from error
            try:
                return pickling.dumps_portable(obj, policy=policy, found=found)
            except pickling.USER_ERRORS:
                raise failure from error
        finally:
            del failure  # its traceback holds this frame: no cycle is left behind


def dump(
    obj: Any, file: IO[bytes], *, repairs: Spec = "all", buffer_callback: Callable[[PickleBuffer], Any] | None = None
) -> None:
    """Write ``dumps(obj)`` to *file*, which is open for writing bytes.

    Nothing is written when it cannot be pickled.

    Raises:
        PreflightError: As ``dumps``.
        OSError: *file* cannot be written.
    """
    file.write(dumps(obj, repairs=repairs, buffer_callback=buffer_callback))


def loads(data: Buffer, *, buffers: Any = None) -> Any:
    """Load what ``dumps`` wrote, as ``pickle.loads`` does.

    Loading runs code that is in *data*: load only what you trust.

    Args:
        data: The pickle.
        buffers: What *buffer_callback* was given, in its order.

    Raises:
        BaseException: Whatever loading raises.
    """
    return pickling.loads(data, buffers)


def load(file: IO[bytes], *, buffers: Any = None) -> Any:
    """Load the next pickle in *file*, which is open for reading bytes; see ``loads``."""
    return pickling.load(file, buffers)


@contextmanager
def repairing(repairs: Spec = "all") -> Iterator[None]:
    """Let cloudpickle use the repairs while this lasts, whoever calls it.

    So ``cloudpickle.dump`` and ``dumps``, and what is built on them or has a copy of
    cloudpickle of its own (MLflow, joblib, loky, Ray, Dask, PySpark), send what they
    could not. It is for the whole process, since several of these pickle in a thread of
    their own. Blocks may nest and overlap in any number of threads; the last one to
    end leaves cloudpickle as it was found. What is written loads where safemp is not.

    Args:
        repairs: As for ``SafeExecutor``. Of several blocks, the last that began decides.
    """
    end = pickling.mend_cloudpickle(policy_of(repairs))
    try:
        yield
    finally:
        end()
