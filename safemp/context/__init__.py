"""``get_context``: contexts of multiprocessing whose processes are given what they were meant to have.

``standard`` has those of the standard library, ``clean`` loky's. A process that starts
loads the one its class is in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safemp.codec.repairs import Spec
    from safemp.context.standard import SafeContext

__all__ = ["get_context"]


def get_context(method: str | None = None, *, repairs: Spec = "all") -> SafeContext:
    """Return a context as ``multiprocessing.get_context`` does, whose processes are checked and repaired.

    It is a ``multiprocessing.context.BaseContext``: ``Process``, ``Queue``, ``Lock``, ``Event``,
    ``Manager``, ``Value`` and the rest are there, and ``Pool`` makes a ``safemp.Pool``.

    ``Process.start()`` raises ``PreflightError`` where something cannot be pickled, before
    anything is started; paths begin with ``target``, ``args[0]``, ``kwargs['x']``, or with
    ``self.x`` for attributes of a subclass. Locks inside objects, loggers, lambdas, closures,
    modules and whatever else calls of a pool may hold arrive in the process. Reducers of
    ``multiprocessing.reduction.ForkingPickler`` (of torch's tensors, of sockets) are used.

    Args:
        method: ``"spawn"``, ``"forkserver"``, ``"fork"`` (nothing is pickled, so nothing is
            checked), ``"loky"`` (a clean interpreter, which does not import this program's
            main module). ``None``: as ``safemp.Pool`` decides. That is loky's, since threads
            and forks do not mix and a script then needs no guard; but a process that is
            handed a lock, queue, ... made in a fork context (on Linux, up to Python 3.13, by
            plain ``multiprocessing``) is forked, since it could not have it otherwise.
        repairs: As for ``SafeExecutor``. ``("all", "reopen")`` also opens files and
            databases again, for a dataset of ``torch.utils.data.DataLoader``, say.

    Returns:
        The context, the same one at each call without *repairs*.

    Raises:
        ValueError: There is no such method here, or no such kind of repairs.
        TypeError: *repairs* is not what it can be.
    """
    context = _context(method)
    if repairs == "all":
        return context
    from safemp.codec.repairs import policy_of

    return context._repairing(policy_of(repairs))


def _context(method: str | None) -> SafeContext:
    if method is None or method == "loky":
        from safemp.context import clean

        return clean.default if method is None else clean.clean
    from safemp.context.standard import contexts

    if method not in contexts:
        known = ", ".join(map(repr, sorted(["loky", *contexts])))
        raise ValueError(f"cannot find context for {method!r}: there are {known}")
    return contexts[method]
