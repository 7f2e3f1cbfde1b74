"""The same large object in many calls: written once, then mapped by every call that has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from safemp.codec import calls, rebuild
from safemp.codec.repairs import Spec, policy_of
from safemp.engines import blocks

if TYPE_CHECKING:
    from safemp.codec.frames import Frames

__all__ = ["SharedObject", "share"]

T = TypeVar("T")


class SharedObject(Generic[T]):
    """Stands for an object in the arguments of calls: the call is given the object itself.

    Made by ``share``.

    Args:
        frames: Its stream, and its buffers.
        name: Of its type, for people.
    """

    __module__ = "safemp"
    __slots__ = ("_frames", "_name")

    def __init__(self, frames: Frames, name: str) -> None:
        self._frames = frames
        self._name = name

    @property
    def nbytes(self) -> int:
        """The bytes that it takes, once for all calls."""
        return sum(map(len, self._frames))

    def load(self) -> T:
        """Return a copy of the object, as a call is given one."""
        loaded: T = rebuild.unshare(*self._frames)
        return loaded

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Travel as the object; its buffers where they are, if the pickler takes them out of band."""
        from safemp.codec.pickling import PickleBuffer

        if protocol < 5:
            return rebuild.unshare, tuple(map(bytes, self._frames))
        return rebuild.unshare, tuple(PickleBuffer(blocks.exporter_of(frame)) for frame in self._frames)

    def __repr__(self) -> str:
        return f"<safemp.SharedObject: {self._name}, {self.nbytes:,} bytes>"


def share(obj: T, *, repairs: Spec = "all") -> SharedObject[T]:
    """Write *obj* once, to hand it to many calls.

    The handle goes wherever an argument goes: into ``submit``, an item of a map, a
    ``functools.partial``, a list. Where a call looks for it, there is the object: each call
    is given one of its own, as of the moment it was shared. Its large buffers (arrays of
    numpy, tensors, columns of pandas and pyarrow) are mapped and not copied; a call may write
    into them, and no other will see it. What is no buffer is loaded anew for each call.

    The memory is given back when the handle, and the calls that have it, are gone.

    Args:
        obj: What to share.
        repairs: As for ``SafeExecutor``.

    Raises:
        PreflightError: Something in it cannot be pickled; paths begin with ``obj``.
    """
    frames = calls.encode_shared(obj, policy_of(repairs))
    _, *held = blocks.store.hold([b"", *frames], again=False)
    return SharedObject(held, f"{type(obj).__module__}.{type(obj).__qualname__}")
