"""Calls and outcomes: what the caller asks, what the worker answers.

    encode_call      fn(*args, **kwargs)          -> frames of kind CALL
    encode_function  the function of a map         -> FUNCTION, sent once to each worker
    encode_chunk     some items of a map           -> CHUNK
    encode_outcome   what a call returned          -> VALUE, or UNSENDABLE: why not
    encode_failure   what a call raised            -> ERROR
    encode_not_loaded  the call did not load       -> NOT_LOADED: encode it carefully

Rule 1: an ``encode_`` of the caller's side raises ``PreflightError`` or encodes;
one of the worker's side never raises, whatever user code does. If a value cannot be
sent it sends the reason; if the reason cannot be sent, it sends text.
Rule 2: a value is never sent as its repr.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from safemp.codec import homes, named, namespaces, pickling, rebuild
from safemp.codec.definitions import ATOMS
from safemp.codec.exceptions import Where, decode_error, encode_error, plain_of
from safemp.codec.frames import Buffer, Frames, Kind, kind_of, pack, unpack
from safemp.codec.inheritance import Heritage, bound_kind
from safemp.codec.record import Count, log_repairs
from safemp.codec.repairs import ALL, BY_NAME, Policy
from safemp.codec.statics import type_name
from safemp.codec.table import ByName
from safemp.errors import Culprit, FrameError, PreflightError
from safemp.steady import by_a_handler

if TYPE_CHECKING:  # both are loaded when something cannot travel, and no sooner
    from safemp.result_error import ResultError

__all__ = [
    "Call",
    "Chunk",
    "NotLoaded",
    "decode_call",
    "decode_chunk",
    "decode_function",
    "decode_outcome",
    "encode_call",
    "encode_chunk",
    "encode_failure",
    "encode_function",
    "encode_not_loaded",
    "encode_outcome",
    "encode_process",
    "encode_shared",
    "failed",
    "preflight",
    "read_not_loaded",
    "roots_of",
]


class Call(NamedTuple):
    """One call: ``fn(*args, **kwargs)``."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some items of a map: ``fn(item)`` for each, or ``fn(*item)`` when *star*.

    *single*: when each of them begins is to be known, since it has a limit.
    """

    items: Sequence[Any]
    first: int
    star: bool
    single: bool


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """Why a worker could not load a call.

    Attributes:
        text: The error, as text.
        module: The module that is missing there, if that is why.
        record: The error itself, as ``encode_error`` writes it, if that could be sent.
    """

    text: str
    module: str | None
    record: Buffer | None = field(default=None, repr=False, compare=False)


# -- the caller's side ----------------------------------------------------------------


def _encode(
    kind: Kind,
    obj: Any,
    roots: Callable[[], list[tuple[str, Any]]],
    careful: bool,
    by_name: bool,
    heritage: Heritage | None = None,
    policy: Policy = ALL,
    apart: list[Buffer] | None = None,
) -> Frames:
    """Climb the ladder, and pack what it gives."""
    buffers: Frames = []
    return pack(kind, _climb(obj, buffers, roots, careful, by_name, heritage, policy, apart), buffers)


def _climb(
    obj: Any,
    buffers: Frames | None,
    roots: Callable[[], list[tuple[str, Any]]],
    careful: bool,
    by_name: bool,
    heritage: Heritage | None,
    policy: Policy,
    apart: list[Buffer] | None = None,
) -> bytes:
    """Climb the ladder; at its top, name every culprit under *roots*."""
    before = Count.repairs
    found: ByName | None = None
    try:
        dump = pickling.dumps_careful if careful else pickling.dumps
        payload = dump(obj, buffers, by_name=by_name, heritage=heritage, policy=policy, apart=apart)
    except pickling.USER_ERRORS as error:
        failure = preflight(error, roots(), heritage, policy)
        try:
            parts = [*(culprit._obj for culprit in failure.culprits), *(part for _, part in roots())]
            if homes.by_name_again([str(_module_of(part)) for part in parts]):
                if buffers is not None:
                    buffers.clear()
                if heritage is not None:
                    heritage.begin()
                return _climb(obj, buffers, roots, careful, by_name, heritage, policy, apart)
            found = attributes_of_modules(failure.culprits, policy)
            if found is None:
                raise failure from _seen_by_users(error)
            if buffers is not None:
                buffers.clear()
            if heritage is not None:
                heritage.begin()
            try:
                payload = pickling.dumps_careful(
                    obj, buffers, by_name=by_name, heritage=heritage, policy=policy, found=found, apart=apart
                )
            except pickling.USER_ERRORS:
                raise failure from _seen_by_users(error)
        finally:
            del failure  # its traceback holds this frame: no cycle is left behind
    if found is not None or Count.repairs != before:
        log_repairs(roots(), policy, found)
    return payload


_PICKLERS = ("safemp", "cloudpickle", "pickle")


def _seen_by_users(error: BaseException) -> BaseException:
    """Take from the traceback of *error* the picklers' frames in front of the user's own ``__reduce__``.

    Mostly that is all of it, a page of what is no fault of theirs.
    """
    trace = error.__traceback__
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] in _PICKLERS:
        trace = trace.tb_next
    return BaseException.with_traceback(error, trace)


def attributes_of_modules(culprits: Iterable[Culprit], policy: Policy) -> ByName | None:
    """Look for *culprits* in modules that the worker imports too; ``None``: not all are there.

    What processes share or talk through is not looked for: the worker's module has another.
    """
    if BY_NAME not in policy.kinds:
        return None
    found: ByName = {}
    for culprit in culprits:
        obj = culprit._obj
        if obj is None or bound_kind(type(obj)) is not None:
            return None
        rule, place = policy.find(type(obj)), named.find(obj)
        if place is None or (rule is not None and rule.talks):
            return None
        found[id(obj)] = obj, rebuild.reference(obj, place[0].__name__, place[1])
    return found


MOST_CULPRITS = 100
"""Culprits after which the search for more ends."""


def preflight(
    error: BaseException, roots: list[tuple[str, Any]], heritage: Heritage | None = None, policy: Policy = ALL
) -> PreflightError:
    """Make the error for a call that *error* kept from being sent.

    Raises:
        BaseException: *error* itself, if no object is to blame for it.
    """
    from safemp.codec.walker import find_culprits

    if by_a_handler(error):
        raise error
    semantics = pickling.Semantics(heritage, policy, [obj for _, obj in roots], error)
    culprits: list[Culprit] = []
    for root in roots:  # each by itself: what two items share is named for both
        culprits += find_culprits([root], semantics, limit=MOST_CULPRITS - len(culprits))
        if len(culprits) >= MOST_CULPRITS:
            break
    for culprit in culprits:
        _forget_context(culprit._error, error)
    # A script's global may be there to talk to others: it is its being handed over that is refused.
    culprits = [c for c in culprits if ".__globals__[" not in c.path or not semantics.refuses(c._obj)]
    if not culprits:  # each part pickles, the whole does not: too deep, most likely
        culprits = [whole(next((root for root in roots if _fails(root[1], heritage, policy)), roots[0]), error)]
    return PreflightError.of(tuple(culprits))


def _forget_context(found: BaseException | None, error: BaseException) -> None:
    """Take *error* from what *found* says it came up in: it was found again only since we were looking for it."""
    for _ in range(_LONGEST_CHAIN):
        if found is None or found is error:
            return
        if found.__context__ is error:
            found.__context__ = None
        found = found.__context__


_LONGEST_CHAIN = 100


def _fails(obj: Any, heritage: Heritage | None, policy: Policy) -> bool:
    try:
        pickling.dumps_careful(obj, heritage=heritage, policy=policy)
    except pickling.USER_ERRORS:  # the same error as before, or one like it
        return True
    return False


def whole(root: tuple[str, Any], error: BaseException) -> Culprit:
    path, obj = root
    if isinstance(error.__cause__, RecursionError) or isinstance(error, RecursionError):
        fix = "flatten it: pickle goes one level of recursion deeper for each level of nesting"
    else:
        fix = "make it in the worker instead"
    return Culprit(path, type_name(type(obj)), text_of(error), fix, _obj=obj, _error=error)


def text_of(error: BaseException) -> str:
    """Return the type and text of *error*, also when its ``__str__`` raises."""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException:  # user code; its failure must not hide the first one
        text = "<its text cannot be had>"
    return f"{name}: {text}" if text else name


def encode_call(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    careful: bool = False,
    by_name: bool = False,
    root: str = "",
    heritage: Heritage | None = None,
    policy: Policy = ALL,
    apart: list[Buffer] | None = None,
) -> Frames:
    """Turn a call into frames that any engine can carry.

    Args:
        fn: What to call.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        careful: Skip the fast rung, since a worker could not load what it wrote.
        by_name: ``__main__`` is the same script in the workers, since they were forked
            or have imported it.
        root: Put before ``fn``, ``args`` and ``kwargs`` in the paths of culprits.
        heritage: Takes what starting workers inherit; ``None``: that is refused.
        policy: Which repairs are made.
        apart: Takes what many calls have in common, the definitions of by-value globals,
            if that has served before; ``decode_call`` wants it back. ``None``: it is
            among the frames.

    Returns:
        ``[header, payload, buffer_0, ..., buffer_n-1]``. The buffers are views of the
        user's memory: see ``Engine.hold``.

    Raises:
        PreflightError: Something cannot be pickled; ``culprits`` says what.
    """
    if not careful:
        buffers: Frames = []
        before = Count.repairs
        try:
            payload = pickling.dumps_call(
                fn, args, kwargs, buffers, by_name=by_name, heritage=heritage, policy=policy, apart=apart
            )
        except pickling.USER_ERRORS as error:  # the careful rung says what is wrong, if anything is
            if by_a_handler(error):
                raise
            payload = None
        if payload is not None:
            if Count.repairs != before:
                log_repairs(roots_of(fn, args, kwargs, root), policy)
            return pack(Kind.CALL, payload, buffers)

    if heritage is not None:
        heritage.begin()
    # Carefully: by name still, unless a name was what the worker could not find.
    by_name = by_name and not careful
    call = (fn, args, kwargs)
    return _encode(Kind.CALL, call, lambda: roots_of(*call, root), True, by_name, heritage, policy, apart)


def encode_process(
    process: Any, roots: list[tuple[str, Any]], *, by_name: bool, heritage: Heritage, policy: Policy = ALL
) -> bytes:
    """Pickle a process object for the process that is about to start.

    Args:
        process: It.
        roots: Its parts under their names, for paths and for what is handed over by itself.
        by_name: As for ``encode_call``.
        heritage: Takes what it inherits.
        policy: As for ``encode_call``.

    Returns:
        A stream for ``pickling.loads``, of a tuple in which the process is the first.

    Raises:
        PreflightError: Something cannot be pickled.
    """
    obj = (process, *(part for _, part in roots))
    before = Count.repairs
    try:
        payload = pickling.dumps_fast(obj, by_name=by_name, heritage=heritage, policy=policy)
    except pickling.USER_ERRORS as error:  # the careful rung says what is wrong, if anything is
        if by_a_handler(error):
            raise
        payload = None
    if payload is None:
        heritage.begin()
        return _climb(obj, None, lambda: roots, True, by_name, heritage, policy)
    if Count.repairs != before:
        log_repairs(roots, policy)
    return payload


def roots_of(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], root: str = ""
) -> list[tuple[str, Any]]:
    """List the parts of a call under their names: see ``encode_call``."""
    named = [(root or "fn", fn)] + [(f"{root}args[{i}]", arg) for i, arg in enumerate(args)]
    return named + [(f"{root}kwargs[{name!r}]", arg) for name, arg in kwargs.items()]


def encode_function(
    fn: Callable[..., Any], *, careful: bool = False, by_name: bool = False, policy: Policy = ALL
) -> Frames:
    """Turn the function of a map into frames: a stream, buffers, and what the definitions gave apart, if they did.

    Raises:
        PreflightError: It cannot be pickled.
    """
    buffers: Frames = []
    apart: list[Buffer] = []
    by_name = by_name and not careful
    payload = _climb(fn, buffers, lambda: [("fn", fn)], careful, by_name, None, policy, apart)
    return pack(Kind.FUNCTION, payload, buffers + apart)


def encode_chunk(
    items: Sequence[Any],
    first: int,
    *,
    star: bool = False,
    single: bool = False,
    careful: bool = False,
    by_name: bool = False,
    policy: Policy = ALL,
    apart: pickling.OfMap | None = None,
) -> Frames:
    """Turn some items of a map into frames.

    Args:
        items: The items, a list or a tuple.
        first: The index of the first of them in the user's iterable.
        star: Each item is a tuple of arguments.
        single: See ``Chunk``.
        careful: As for ``encode_call``.
        by_name: As for ``encode_call``.
        policy: As for ``encode_call``.
        apart: Takes the definitions that the items need; ``None``: they are in the frames.

    Raises:
        PreflightError: An item cannot be pickled; its path is ``items[index]``.
    """

    def roots() -> list[tuple[str, Any]]:
        return [(f"items[{first + i}]", item) for i, item in enumerate(items)]

    by_name = by_name and not careful
    return _encode(Kind.CHUNK, (items, first, star, single), roots, careful, by_name, policy=policy, apart=apart)


def encode_shared(obj: Any, policy: Policy = ALL) -> Frames:
    """Turn *obj* into the arguments of ``rebuild.unshare``: a stream, then the buffers beside it.

    Raises:
        PreflightError: It cannot be pickled.
    """
    buffers: Frames = []
    return [_climb(obj, buffers, lambda: [("obj", obj)], False, False, None, policy), *buffers]


# -- the worker's side ----------------------------------------------------------------


def _decode(frames: Frames, wanted: Kind, apart: Buffer | None = None) -> Any:
    kind, payload, buffers = unpack(frames)
    if kind is not wanted:
        raise FrameError(f"cannot read frames: {wanted.name} expected, {kind.name} found")
    if kind is Kind.FUNCTION and pickling.refers_apart(payload):
        apart = buffers.pop()
    return pickling.loads(payload, buffers, apart)


def decode_call(frames: Frames, apart: Buffer | None = None) -> Call:
    """Load a call.

    Args:
        frames: What ``encode_call`` gave.
        apart: What it gave apart, if it did.

    Raises:
        FrameError: The frames are damaged.
        BaseException: Whatever user code raises while it is loaded.
    """
    return Call(*_decode(frames, Kind.CALL, apart))


def decode_function(frames: Frames) -> Callable[..., Any]:
    """Load the function of a map. Raises as ``decode_call``."""
    fn: Callable[..., Any] = _decode(frames, Kind.FUNCTION)
    return fn


def decode_chunk(frames: Frames, apart: Buffer | None = None) -> Chunk:
    """Load some items of a map: see ``decode_call``."""
    return Chunk(*_decode(frames, Kind.CHUNK, apart))


def encode_outcome(value: Any) -> Frames:
    """Turn what a call returned into frames. Never raises."""
    buffers: Frames = []
    try:
        return pack(
            Kind.VALUE, pickling.dumps(value, buffers, ship=False, by_name=namespaces.main_is_shared()), buffers
        )
    except BaseException as error:  # user code, in __reduce__ or __getstate__, may raise anything
        return _encode_unsendable(value, error)


def _encode_unsendable(value: Any, error: BaseException) -> Frames:
    from safemp.codec.walker import find_culprits

    by_name = namespaces.main_is_shared()
    try:
        culprits = find_culprits([("result", value)], pickling.Semantics(error=error), returned=True) or [
            whole(("result", value), error)
        ]
        found = attributes_of_modules(culprits, ALL)
        if found is not None:
            buffers: Frames = []
            with suppress(*pickling.USER_ERRORS):
                stream = pickling.dumps_careful(value, buffers, ship=False, by_name=by_name, found=found)
                return pack(Kind.VALUE, stream, buffers)
    except BaseException as second:  # as above
        culprits = [
            Culprit("result", type_name(type(value)), text_of(error), f"(the search for it failed: {text_of(second)})")
        ]
    return pack(Kind.UNSENDABLE, pickling.dumps(tuple(culprits)))


def encode_failure(error: BaseException, where: Where) -> Frames:
    """Turn what a call raised into frames. Never raises."""
    return pack(Kind.ERROR, encode_error(error, dump=_dump_error, load=pickling.loads, where=where))


def _dump_error(obj: Any) -> bytes:
    return pickling.dumps_careful(obj, ship=False, by_name=namespaces.main_is_shared())


def encode_not_loaded(error: BaseException, where: Where | None = None) -> Frames:
    """Tell the caller that a call did not load. Never raises."""
    module = error.name if isinstance(error, ModuleNotFoundError) and isinstance(error.name, str) else None
    record: Frames = []
    with suppress(BaseException):  # no memory for it: the text may do
        record.append(encode_error(_seen_by_users(error), dump=_dump_error, load=pickling.loads, where=where))
    return pack(Kind.NOT_LOADED, pickling.dumps((text_of(error), module)), record)


# -- the caller's side again ----------------------------------------------------------


_VALUE = int(Kind.VALUE)


def failed(frames: Frames) -> bool:
    """Tell from the header alone whether an outcome is anything but a value."""
    try:
        return frames[0][3] != _VALUE  # as ``kind_of``, at a third of the cost
    except IndexError:
        return True


def error_line(outcome: Frames | BaseException | float | None) -> str:
    """Return the type and the first line of the text of a failure, without loading it. Runs no user code."""
    if not isinstance(outcome, list):
        name = type(outcome).__name__
        text = str(outcome.args[0]) if isinstance(outcome, BaseException) and outcome.args else ""
    else:
        try:
            kind, payload, _ = unpack(outcome)
            if kind is not Kind.ERROR:
                return kind.name
            plain = plain_of(payload)
        except FrameError as error:
            name, text = "FrameError", str(error)
        else:
            name, text = plain.qualname, plain.text
    first = text.strip().partition("\n")[0]
    return f"{name}: {first}" if first else name


def read_not_loaded(frames: Frames) -> NotLoaded | None:
    """Return why the call did not load; ``None`` for any other outcome."""
    if kind_of(frames) != Kind.NOT_LOADED:
        return None
    _, payload, record = unpack(frames)
    return NotLoaded(*pickling.loads(payload), *record)


def decode_outcome(frames: Frames) -> tuple[bool, Any]:
    """Load an outcome, in the thread that asks for it.

    Returns:
        ``(True, value)`` for what the call returned, ``(False, error)`` for what it
        raised, or for what kept its result from arriving. Never raises for what is in
        the frames, but Ctrl-C, and what handlers of signals raise; a damaged frame is a
        ``FrameError`` in the second place.
    """
    try:
        kind, payload, buffers = unpack(frames)
        if kind is Kind.VALUE:
            return True, pickling.loads(payload, buffers)
        if kind is Kind.ERROR:
            return False, decode_error(payload, load=pickling.loads)
        if kind is Kind.UNSENDABLE:
            return False, _result_error(pickling.loads(payload))
        if kind is Kind.NOT_LOADED:
            return False, _not_loadable(NotLoaded(*pickling.loads(payload), *buffers), [])
        return False, FrameError(f"cannot read frames: an outcome expected, {kind.name} found")
    except FrameError as error:
        return False, error
    except KeyboardInterrupt:  # the caller's own, most likely
        raise
    except BaseException as error:  # user code, in __setstate__ or a constructor
        if by_a_handler(error):
            raise
        return False, _result_not_loaded(error)


def _result_error(culprits: tuple[Culprit, ...]) -> ResultError:
    from safemp.result_error import ResultError

    return ResultError(culprits)


def _result_not_loaded(error: BaseException) -> ResultError:
    fix = _MEMORY_FIX if isinstance(error, MemoryError) else _LOAD_FIX
    culprit = Culprit("result", "what it returned", text_of(error), fix, problem="does not load here")
    made = _result_error((culprit,))
    made.__cause__ = error
    return made


_LOAD_FIX = "give its class a __reduce__ whose call can be made again, and keep the class importable on both sides"


_MEMORY_FIX = "there is no memory for it: hand over less at a time, or the path of a file"


_IMPORT_FIX = "install it, or put its folder on the path, where the workers run"


_SCRIPT_FIX = (
    "define in a module what this script defines, and import it; or have workers that import the script, "
    'which must be guarded by if __name__ == "__main__": mp_context="spawn" (of a Pool: context="spawn")'
)


def _module_of(obj: Any) -> str | None:
    """Return the name of the module that defines a function or class, or that of an instance."""
    defined = obj if type(obj) is FunctionType or issubclass(type(obj), type) else type(obj)
    try:
        module = defined.__module__
    except Exception:  # a metaclass may have something else there
        return None
    return module if isinstance(module, str) else None


def _not_loadable(why: NotLoaded, roots: Sequence[tuple[str, Any]]) -> PreflightError:
    error = None if why.record is None else decode_error(why.record, load=pickling.loads)
    module = _imported_in(error)
    if why.text.startswith("ModuleNotFoundError"):
        fix = _IMPORT_FIX
    elif why.text.startswith("MemoryError"):
        fix = _MEMORY_FIX
    elif module is not None:
        fix = f"have {module} be importable in the worker: to import it there raised this, see the cause's traceback"
    elif any(namespaces.is_main(_module_of(obj)) for _, obj in roots):
        fix = _SCRIPT_FIX
    else:
        fix = _LOAD_FIX
    problem = "does not load in the worker"
    parts = [
        Culprit(path, type_name(type(obj)), why.text, fix, _obj=obj, problem=problem)
        for path, obj in _to_blame(roots, (why.module, module))
    ]
    made = PreflightError(tuple(parts) or (Culprit("the call", "part of it", why.text, fix, problem=problem),))
    made.__cause__ = error
    return made


def _imported_in(error: BaseException | None) -> str | None:
    """Return the module whose import *error* has ended; ``None``: it was raised elsewhere."""
    trace = None if error is None else BaseException.__dict__["__traceback__"].__get__(error)
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__")
        if trace.tb_frame.f_code.co_name == "<module>" and isinstance(name, str) and not namespaces.is_main(name):
            return name
        trace = trace.tb_next
    return None


def _to_blame(roots: Sequence[tuple[str, Any]], modules: Sequence[str | None]) -> Sequence[tuple[str, Any]]:
    """Return those of *roots* that cannot load without *modules*, or the only one that may not have; else none."""
    of_them = [(path, obj) for path, obj in roots if (module := _module_of(obj)) is not None and module in modules]
    given = {id(value) for value in vars(builtins).values()}
    able = [root for root in roots if type(root[1]) not in ATOMS and id(root[1]) not in given]
    return of_them or (able if len(able) == 1 else [])


def blame_load(why: NotLoaded, roots: list[tuple[str, Any]], policy: Policy = ALL) -> PreflightError:
    """Make the error for a call that no worker could load, on either rung.

    Args:
        why: What the worker said.
        roots: The parts of the call; the smallest objects in it that do not load here are named. Where all of
            them do (a module is missing in the worker, or cannot be imported there), it is those parts of which
            that is sure, or the call.
        policy: As for ``encode_call``.
    """
    from safemp.codec.loading import find_unloadable  # no worker needs it

    culprits = find_unloadable(roots, pickling.Semantics(policy=policy), policy=policy)
    if culprits:
        made = PreflightError(tuple(culprits))
        made.__cause__ = culprits[0]._error
        return made
    return _not_loadable(why, roots)
