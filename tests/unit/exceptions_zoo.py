"""Exceptions that are hard to pickle, each made by a function without arguments."""

from __future__ import annotations

import builtins
import copyreg
import errno
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class TwoArguments(Exception):
    def __init__(self, a: object, b: object) -> None:
        super().__init__(f"{a}/{b}")
        self.a = a
        self.b = b


class KeywordOnly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Slotted(Exception):
    __slots__ = ("__hidden", "empty", "shown")

    def __init__(self, shown: int) -> None:
        super().__init__("slotted")
        self.shown = shown
        self.__hidden = shown * 2

    def hidden(self) -> int:
        return self.__hidden


class SlottedChild(Slotted):
    __slots__ = ("more",)

    def __init__(self) -> None:
        super().__init__(4)
        self.more = None
        self.free = "in the dict"


class RequiredNew(Exception):
    def __new__(cls, a: int, b: int) -> RequiredNew:
        made = super().__new__(cls, a)
        made.b = b
        return made

    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)


@dataclass(frozen=True)
class Frozen(Exception):
    x: int
    y: str


class ReadOnlyArgs(Exception):
    def __init__(self, number: int) -> None:
        self._number = number

    @property
    def args(self) -> tuple[Any, ...]:  # type: ignore[override]
        return (self._number,)

    def __str__(self) -> str:
        return f"number {self._number}"


class NoSetattr(Exception):
    def __init__(self) -> None:
        super().__init__("fixed")
        self.__dict__["value"] = 5

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} is fixed")


class StrRaises(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(value, "unreadable")

    def __str__(self) -> str:
        raise ValueError("no text")


class ReprRaises(Exception):
    def __init__(self) -> None:
        super().__init__("repr raises")
        self.it = self

    def __repr__(self) -> str:
        raise SystemExit(7)


class GetattrRecurses(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)

    def __getattr__(self, name: str) -> Any:
        return getattr(self, name + "_")


class GetattributeRaises(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a, b)

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(f"no {name}")


class ReduceRaises(Exception):
    def __reduce__(self) -> Any:
        raise KeyboardInterrupt


class ReduceJunk(Exception):
    def __reduce__(self) -> Any:
        return 42


class ReduceString(Exception):
    def __reduce__(self) -> Any:
        return "nowhere"


class ReduceOther(Exception):
    """As google.genai's ``ClientError`` does: the base comes back."""

    def __reduce__(self) -> Any:
        return Exception, self.args


class ReduceExits(Exception):
    def __reduce__(self) -> Any:
        return sys.exit, (3,)


class ReduceLoads(Exception):
    """Its own way is fine, and drops the lock on purpose."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        return ReduceLoads, (self.text,)


class Registered(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)
        self.b = b
        self.lock = threading.Lock()


def _reduce_registered(exc: Registered) -> Any:
    return Registered, (exc.args[0], exc.b)


copyreg.pickle(Registered, _reduce_registered)  # type: ignore[arg-type]


class DropsLock(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a + b)
        self.a = a
        self.lock = threading.Lock()

    def __getstate__(self) -> Any:
        return {"a": self.a}

    def __setstate__(self, state: Any) -> None:
        self.a = state.pop("a")
        self.lock = threading.Lock()


class SetstateRaises(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)
        self.b = b

    def __setstate__(self, state: Any) -> None:
        raise OSError("no state, thank you")


class Hostile(Exception):
    """Everything else that can raise does."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)

    def __eq__(self, other: object) -> bool:
        raise MemoryError

    def __bool__(self) -> bool:
        raise MemoryError

    def __dir__(self) -> Any:
        raise SystemExit

    @property
    def __class__(self) -> Any:
        return int

    @property
    def __notes__(self) -> Any:
        raise MemoryError


class EqRaisesInside(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)
        self.inside = Unequal()


class Unequal:
    def __eq__(self, other: object) -> bool:
        raise MemoryError

    __hash__ = None  # type: ignore[assignment]


class DelRaises(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)

    def __del__(self) -> None:
        self.gone = True


class TwoBases(KeyError, AttributeError):
    def __init__(self, key: str, *, extra: int) -> None:
        super().__init__(key)
        self.extra = extra


class OwnOSError(OSError):
    def __init__(self, path: str, code: int, *, hint: str) -> None:
        super().__init__(code, "own", path)
        self.hint = hint


class NewOSError(OSError):
    def __new__(cls, path: str, hint: str) -> NewOSError:
        made = super().__new__(cls, errno.EPERM, "made in new", path)
        made.hint = hint
        return made

    hint: str


class Meta(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        made.counted = True
        return made

    def __instancecheck__(cls, instance: object) -> bool:
        raise TypeError("do not ask")

    def __eq__(cls, other: object) -> bool:
        raise TypeError("do not compare")

    __hash__ = type.__hash__


class WithMeta(Exception, metaclass=Meta):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)


class SubclassText(str):
    pass


def caught(make: Callable[[], Any]) -> BaseException:
    """Run *make*; return what it raises, or raise what it returns and return that."""
    try:
        raise make()
    except BaseException as exc:
        return exc


def _caused() -> BaseException:
    try:
        try:
            {}["missing"]
        except KeyError as first:
            first.__dict__["seen"] = 1
            raise TwoArguments("a", first) from OSError(2, "other", "f")
    except TwoArguments as exc:
        return exc
    raise AssertionError


def _suppressed() -> BaseException:
    try:
        try:
            int("x")
        except ValueError:
            raise KeywordOnly(code=5) from None
    except KeywordOnly as exc:
        return exc
    raise AssertionError


def _noted() -> BaseException:
    exc = TwoArguments(1, 2)
    exc.__notes__ = ["one", "two\nlines"]  # type: ignore[attr-defined]  # add_note is 3.11
    return exc


def _cycle() -> BaseException:
    a, b = TwoArguments("a", 1), KeywordOnly(code=2)
    a.__context__ = b
    b.__context__ = a
    a.__dict__["me"] = [a]
    b.__dict__["other"] = a
    return a


def _local() -> BaseException:
    class Local(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(a)
            self.b = b

    return Local(1, 2)


def _compiled() -> BaseException:
    return compile("a = (1 +\n    2 3)\n", "some.py", "exec")  # type: ignore[return-value]


def _attribute() -> BaseException:
    return "text".missing  # type: ignore[attr-defined]


def _name() -> BaseException:
    return undefined_name  # type: ignore[name-defined]  # noqa: F821


def _imported() -> BaseException:
    from os import no_such_thing  # type: ignore[attr-defined]

    return no_such_thing  # type: ignore[no-any-return]


def _blocking() -> BaseException:
    exc = BlockingIOError(errno.EAGAIN, "would block", 17)
    return exc


def _dict(exc: BaseException, **attributes: Any) -> BaseException:
    exc.__dict__.update(attributes)
    return exc


ZOO: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: ValueError("x", 1),
    "no args": lambda: ValueError(),
    "two arguments": lambda: TwoArguments(1, "b"),
    "keyword only": lambda: KeywordOnly(code=3),
    "slots": lambda: Slotted(3),
    "slots and dict": lambda: SlottedChild(),
    "required new": lambda: RequiredNew(1, 2),
    "frozen dataclass": lambda: Frozen(1, "y"),
    "read-only args": lambda: ReadOnlyArgs(3),
    "setattr raises": lambda: NoSetattr(),
    "str raises": lambda: StrRaises(1),
    "repr raises": lambda: ReprRaises(),
    "getattr recurses": lambda: GetattrRecurses(1, 2),
    "getattribute raises": lambda: GetattributeRaises(1, 2),
    "reduce raises": lambda: ReduceRaises("x"),
    "reduce junk": lambda: ReduceJunk("x"),
    "reduce to a name": lambda: ReduceString("x"),
    "reduce to another class": lambda: ReduceOther("x"),
    "reduce exits": lambda: ReduceExits("x"),
    "setstate raises": lambda: SetstateRaises(1, 2),
    "hostile": lambda: Hostile(1, 2),
    "unequal attribute": lambda: EqRaisesInside(1, 2),
    "del": lambda: DelRaises(1, 2),
    "two builtin bases": lambda: TwoBases("k", extra=5),
    "metaclass": lambda: WithMeta(1, 2),
    "local class": _local,
    "file not found": lambda: FileNotFoundError(errno.ENOENT, "no such", "a"),
    "two files": lambda: OSError(errno.EXDEV, "cross", "a", None, "b"),
    "only a message": lambda: OSError("just text"),
    "blocking": _blocking,
    "own oserror": lambda: OwnOSError("p", errno.EACCES, hint="h"),
    "oserror with new": lambda: NewOSError("p", "h"),
    "unicode decode": lambda: b"\xff\xfe".decode("utf-8"),  # type: ignore[dict-item,return-value]
    "unicode encode": lambda: "\udc00".encode(),  # type: ignore[dict-item,return-value]
    "unicode translate": lambda: UnicodeTranslateError("text", 1, 3, "why"),
    "syntax": _compiled,
    "indentation": lambda: compile("if 1:\nx", "f.py", "exec"),  # type: ignore[dict-item,return-value]
    "key": lambda: KeyError(("a", 1)),
    "stop iteration": lambda: StopIteration({"value": 1}),
    "system exit": lambda: SystemExit(3),
    "system exit with text": lambda: SystemExit("bye"),
    "keyboard interrupt": lambda: KeyboardInterrupt(),
    "generator exit": lambda: GeneratorExit("g"),
    "import": lambda: ImportError("no", name="mod", path="/p"),
    "import from": _imported,
    "attribute": _attribute,
    "attribute by hand": lambda: AttributeError("a", name="n", obj=[1, 2]),
    "name": _name,
    "caused": _caused,
    "suppressed": _suppressed,
    "noted": _noted,
    "cycle": _cycle,
    "itself inside": lambda: _dict(exc := TwoArguments(1, 2), me=exc),
    "shared cause": lambda: _dict(exc := _caused(), orig=exc.__cause__),
    "str subclass": lambda: TwoArguments(SubclassText("s"), SubclassText("t")),
    "not a number": lambda: ValueError(float("nan")),
    "odd attributes": lambda: _dict(TwoArguments(1, 2), **{"not a name": 1, "": 2}),
    "surrogates": lambda: ValueError("\udc80\x00é"),
}

if sys.version_info >= (3, 11):

    class OwnGroup(ExceptionGroup[Exception]):
        def __new__(cls, message: str, members: list[Exception], code: int) -> OwnGroup:
            made = super().__new__(cls, message, members)
            made.code = code
            return made

        code: int

        def derive(self, excs: Any) -> OwnGroup:
            return OwnGroup(self.message, excs, self.code)

    class StrictGroup(BaseExceptionGroup[BaseException]):
        def __init__(self, message: str, members: list[BaseException], *, code: int) -> None:
            self.code = code

        def __new__(cls, message: str, members: list[BaseException], *, code: int) -> StrictGroup:
            return super().__new__(cls, message, members)

    def _looped_group() -> BaseException:
        group = OwnGroup("loop", [TwoArguments(i, i) for i in range(5)], 1)
        for member in group.exceptions:
            member.__context__ = group
            member.__dict__["group"] = group
        return group

    ZOO |= {
        "group": lambda: ExceptionGroup("g", [TwoArguments(1, 2), ExceptionGroup("in", [caught(_compiled)])]),
        "base group": lambda: BaseExceptionGroup("g", [KeyboardInterrupt(), SystemExit(2), ValueError(1)]),
        "own group": lambda: OwnGroup("g", [TwoArguments(1, 2)], 7),
        "strict group": lambda: StrictGroup("g", [KeyboardInterrupt()], code=7),
        "looped group": _looped_group,
    }

HONOURED: dict[str, Callable[[], BaseException]] = {
    "reduce": lambda: ReduceLoads("dropped on purpose"),
    "copyreg": lambda: Registered(1, 2),
    "getstate and setstate": lambda: DropsLock(1, 2),
}
"""They hold a lock, and their own way leaves it behind."""


# -- what one can see of an exception -------------------------------------------------

# fmt: off
_C_STATE = frozenset({
    "errno", "strerror", "filename", "filename2", "characters_written", "encoding", "object", "start", "end", "reason",
    "msg", "lineno", "offset", "text", "end_lineno", "end_offset", "print_file_and_line", "name", "path", "name_from",
    "obj", "value", "code", "message",
})
# fmt: on
def portrait(exc: BaseException, seen: dict[int, int] | None = None) -> Any:
    """Lay out all of *exc* as comparable builtins, following links and cycles."""
    seen = {} if seen is None else seen
    if id(exc) in seen:
        return f"the one at {seen[id(exc)]}"
    seen[id(exc)] = len(seen)
    cls = type(exc)
    try:
        text: Any = str(exc)
    except BaseException as error:
        text = f"raises {type(error).__name__}"
    builtin = next(base for base in cls.__mro__ if type(base) is type and base in vars(builtins).values())
    get: Any = type.__dict__["__dict__"].__get__
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        for name, descriptor in get(base).items():
            ours = any(base is known for known in builtin.__mro__)
            if (ours and name in _C_STATE) or (not ours and type(descriptor).__name__ == "member_descriptor"):
                try:
                    found[f"{base.__name__}.{name}"] = _value(descriptor.__get__(exc), seen)
                except AttributeError:
                    found[f"{base.__name__}.{name}"] = "empty"
    raw = {name: BaseException.__dict__[name].__get__(exc) for name in ("args", "__dict__", "__suppress_context__")}
    links = {name: BaseException.__dict__[name].__get__(exc) for name in ("__cause__", "__context__")}
    members = list(getattr(exc, "exceptions", ())) if "group" in builtin.__name__.lower() else []
    return {
        "class": (cls.__module__, cls.__qualname__),
        "bases": [base.__qualname__ for base in cls.__mro__],
        "text": text,
        "state": found,
        "frames": frames_of(exc),
        **{name: _value(value, seen) for name, value in raw.items()},
        **{name: value and portrait(value, seen) for name, value in links.items()},
        "members": [portrait(member, seen) for member in members],
    }


def _value(value: Any, seen: dict[int, int]) -> Any:
    kind = type(value)
    if issubclass(kind, BaseException):
        return portrait(value, seen)
    if kind in (list, tuple):
        return [kind.__name__, *(_value(item, seen) for item in value)]
    if kind is dict:
        return {key: _value(item, seen) for key, item in value.items()}
    return (kind.__qualname__, repr(value)) if kind.__module__ == "builtins" else kind.__qualname__


def frames_of(exc: BaseException) -> list[tuple[Any, ...]]:
    """List what printing the traceback of *exc* shows, past its own ``__getattribute__``."""
    return frames(BaseException.__dict__["__traceback__"].__get__(exc))


def frames(tb: Any) -> list[tuple[Any, ...]]:
    """List what printing a traceback shows."""
    found = []
    while tb is not None:
        code = tb.tb_frame.f_code
        position = list(code.co_positions())[tb.tb_lasti // 2] if hasattr(code, "co_positions") else None
        qualname = getattr(code, "co_qualname", None)
        found.append((code.co_filename, code.co_name, qualname, code.co_firstlineno, tb.tb_lineno, position))
        tb = tb.tb_next
    return found
