"""What a worker leaves when it dies: its stacks and the last that it wrote to stderr.

The worker here is a fork of the test with a black box; it ends without unwinding.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import io
import logging
import mmap
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from safemp.engines import blackbox
from safemp.engines.blackbox import DUMP_SIGNAL, Box
from safemp.engines.stacks import clean, told
from tests.support.child import until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

RING = 4096 - 64


@pytest.fixture
def box() -> Iterator[Box]:
    box = Box()
    yield box
    box.close()


class Worker:
    """A fork with a black box and a stderr of its own, which is a file here."""

    def __init__(self, box: Box, task: Callable[[], object], *, before: Callable[[], object] = int) -> None:
        self.real = tempfile.TemporaryFile()  # noqa: SIM115 - closed in end()
        self.pid = os.fork()
        if not self.pid:
            try:
                faulthandler.disable()  # pytest's
                sys.stderr = os.fdopen(os.dup(self.real.fileno()), "w", encoding="utf-8", errors="backslashreplace")
                sys.stderr.reconfigure(line_buffering=True)  # type: ignore[attr-defined]
                before()
                blackbox.install(os.dup(box.fd))
                task()
            except BaseException as error:
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
                os._exit(1)
            os._exit(0)

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.wrote = os.pread(self.real.fileno(), 1 << 20, 0).decode()
        self.real.close()
        return code


def run(box: Box, task: Callable[[], object], *, before: Callable[[], object] = int, code: int = 0) -> str:
    """Run *task* in a worker, to the end with *code*; return what it really wrote."""
    worker = Worker(box, task, before=before)
    assert worker.end() == code, worker.wrote
    return worker.wrote


# -- stderr ---------------------------------------------------------------------------------


def test_an_unused_box_is_empty(box: Box) -> None:
    """A worker that died before it began has left nothing."""
    assert (box.stderr(), box.fatal_stack(), box.dump()) == ("", "", "")
    assert not box.answered()
    assert not box.answered()


def test_what_is_written_is_kept_and_goes_where_it_went(box: Box) -> None:
    """``print``, ``write``, ``writelines`` and a partial line: kept, and written as ever."""

    def task() -> None:
        print("one", 1, file=sys.stderr)
        sys.stderr.write("two\n")
        sys.stderr.writelines(["three\n", "four\n"])
        print("ünï ☃ \ud800", end="", file=sys.stderr)
        sys.stderr.flush()

    wrote = run(box, task)

    assert wrote == "one 1\ntwo\nthree\nfour\nünï ☃ \\ud800"
    assert box.stderr() == wrote


def test_a_partial_line_is_kept_that_never_reached_the_real_stderr(box: Box) -> None:
    """What stood in Python's buffer at the end would else be lost."""

    def task() -> None:
        print("almost done", end="", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGKILL)

    assert run(box, task, code=-signal.SIGKILL) == ""
    assert box.stderr() == "almost done"


def test_stderr_stays_what_it_was(box: Box) -> None:
    """It is the same object, with the same terminal, descriptor, encoding and buffer; ``write`` still refuses bytes."""
    seen: list[Any] = []

    def facts() -> list[Any]:
        stream: Any = sys.stderr
        return [stream, stream.isatty(), stream.fileno(), stream.encoding, stream.errors, stream.buffer, type(stream)]

    def task() -> None:
        assert facts() == seen
        assert sys.stderr.write("four") == 4
        with contextlib.suppress(TypeError):
            sys.stderr.write(b"bytes")  # type: ignore[arg-type]
            os._exit(9)
        with contextlib.suppress(TypeError):
            sys.stderr.write()  # type: ignore[call-arg]
            os._exit(9)

    run(box, task, before=lambda: seen.extend(facts()))

    assert box.stderr() == "four"


def test_a_handler_that_holds_the_old_stderr_is_heard(box: Box) -> None:
    """Logging set up before the worker began writes to the object that it found then."""
    handlers: list[logging.Handler] = []

    def task() -> None:
        sys.stderr = io.StringIO()
        handlers[0].emit(logging.makeLogRecord({"msg": "heard"}))

    run(box, task, before=lambda: handlers.append(logging.StreamHandler(sys.stderr)))

    assert box.stderr() == "heard\n"


def test_a_text_of_a_class_of_its_own_runs_no_code_in_us(box: Box) -> None:
    """A subclass of ``str`` is kept as the text that it is."""

    class Text(str):
        __slots__ = ()

        def __getitem__(self, _: Any) -> Any:
            os._exit(9)

        __len__ = __str__ = encode = __getitem__  # type: ignore[assignment]

    run(box, lambda: blackbox.note(Text("abc")))

    assert box.stderr() == "abc"


def test_a_closed_stderr_says_so_itself(box: Box) -> None:
    """Closing it and writing on gives the error that it always gave."""

    def task() -> None:
        sys.stderr.write("before\n")
        sys.stderr.close()
        try:
            sys.stderr.write("after\n")
        except ValueError:
            os._exit(0)
        os._exit(9)

    run(box, task)

    assert box.stderr() == "before\nafter\n"


def test_a_stream_that_takes_the_place_of_stderr_can_be_heard_too(box: Box) -> None:
    """A stream that is heard twice keeps its text once."""

    def task() -> None:
        sys.stderr = io.TextIOWrapper(io.BytesIO(), "utf-8")
        for _ in range(2):
            blackbox.hear(sys.stderr)
        sys.stderr.write("once\n")

    run(box, task)

    assert box.stderr() == "once\n"


class Fixed:
    """A stream that takes no attributes."""

    __slots__ = ()

    def write(self, text: str) -> None:
        pass


@pytest.mark.parametrize("stream", [None, Fixed(), object()], ids=["none", "slots", "no-write"])
def test_a_stderr_that_cannot_be_heard_is_left_alone(box: Box, stream: Any) -> None:
    """A worker without a proper stderr begins as ever."""
    before = lambda: setattr(sys, "stderr", stream)  # noqa: E731
    worker = Worker(box, lambda: os._exit(0 if sys.stderr is stream else 9), before=before)

    assert worker.end() == 0
    assert box.stderr() == ""


def test_of_a_flood_the_last_lines_are_kept(box: Box) -> None:
    """The text begins with a whole line, however the ring turns."""
    lines = [f"line {i} {'ü' * (i % 97)}\n" for i in range(3000)]

    run(box, lambda: [sys.stderr.write(line) for line in lines])

    kept = box.stderr()
    assert "".join(lines).endswith(kept)
    assert "\n" + kept in "".join(lines)
    assert RING - 400 < len(kept.encode()) <= RING


@pytest.mark.parametrize("text", ["x" * 100_000, "☃" * 100_000], ids=["ascii", "three-bytes"])
def test_one_endless_line_keeps_its_end(box: Box, text: str) -> None:
    """Without a line's start there is what there is, in whole characters."""
    run(box, lambda: sys.stderr.write(text))

    kept = box.stderr()
    assert text.endswith(kept)
    assert RING - 4 < len(kept.encode()) <= RING


def test_threads_do_not_mix_their_lines(box: Box) -> None:
    """What several threads write is kept write by write."""

    def write(name: str) -> None:
        for i in range(2000):
            sys.stderr.write(f"{name}{i:05}\n")

    def task() -> None:
        sys.setswitchinterval(1e-6)
        threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run(box, task)

    kept = box.stderr().splitlines()
    whole = [line for line in kept if re.fullmatch(r"[abcd]\d{5}", line)]
    assert len(whole) >= (RING // 7 - 1 if sys.version_info >= (3, 11) else RING // 8)
    assert sum(line[1:] == "01999" for line in kept) >= 1


def test_a_signal_handler_may_write_in_the_middle_of_a_write(box: Box) -> None:
    """Nothing waits for the write that it has interrupted, and what it raises is not lost."""

    def task() -> None:
        beats = 0

        def beat(*_: object) -> None:
            nonlocal beats
            beats += 1
            blackbox.note(f"beat {beats:06}\n")
            if beats >= 300:  # on a slow machine handlers nest, and the 300th may meet the limit of recursion
                signal.setitimer(signal.ITIMER_REAL, 0)
                raise TimeoutError

        signal.signal(signal.SIGALRM, beat)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        try:
            while True:
                blackbox.note("work 000000\n")
        except TimeoutError:
            blackbox.note("last 000000\n")

    run(box, task)

    kept = box.stderr().splitlines()
    assert all(re.fullmatch(r"(beat|work|last) \d{6}", line) for line in kept)
    assert kept[-1] == "last 000000"
    assert any("beat 000300" <= line < "last" for line in kept[-10:])


def test_a_worker_killed_in_the_middle_of_a_flood_leaves_whole_lines(box: Box) -> None:
    """At whatever instruction it dies: what is shown was written, in one piece."""

    def flood() -> None:
        i = 0
        while True:
            i += 1
            blackbox.note(f"<{i}>{'.' * (i * 37 % 1500)}</{i}>\n")

    for _ in range(30):
        worker = Worker(box, flood)
        assert until(lambda: box.stderr())
        time.sleep(random.random() * 0.01)
        os.kill(worker.pid, signal.SIGKILL)
        assert worker.end() == -signal.SIGKILL

        kept = box.stderr()
        assert kept
        for line in kept.splitlines():
            assert re.fullmatch(r"<(\d+)>\.*</\1>", line)
        os.pwrite(box.fd, bytes(4096), 0)


def test_what_was_half_written_is_not_shown() -> None:
    """A line that was being copied when its writer died is left out, and so is what it had covered."""
    box = Box()
    page = mmap.mmap(box.fd, 4096)
    ring = blackbox._Ring(page)
    for i in range(1000):
        ring.add(f"line {i:04}\n")
    before = box.stderr()
    ring._counts[0] += 100  # as if it had died before the second count

    assert before.endswith(box.stderr())
    assert len(before) - 110 <= len(box.stderr()) <= len(before) - 100
    for begun, done in ((5, 10), (1 << 63, 1), (1 << 63, 1 << 63), (10**6, 1)):
        ring._counts[0], ring._counts[1] = begun, done
        assert isinstance(box.stderr(), str)
    box.close()


def test_a_box_that_a_task_has_cut_short_is_empty(box: Box) -> None:
    """A task that truncates or fills every file it finds open does not hurt the caller."""
    run(box, lambda: (sys.stderr.write("x\n"), os.ftruncate(box.fd, 10)))
    assert (box.stderr(), box.fatal_stack(), box.dump()) == ("", "", "")

    run(box, lambda: os.pwrite(box.fd, b"\xff" * (1 << 20), 0))
    assert isinstance(box.stderr(), str)
    assert box.fatal_stack() == ""


# -- stacks ---------------------------------------------------------------------------------


def crash_here() -> None:
    ctypes.string_at(0)


def recurse(n: int) -> None:
    if n:
        recurse(n - 1)
    else:
        crash_here()


@pytest.mark.parametrize(
    ("task", "code"),
    [(crash_here, signal.SIGSEGV), (os.abort, signal.SIGABRT), (lambda: recurse(800), signal.SIGSEGV)],
    ids=["segfault", "abort", "deep"],
)
def test_a_crash_leaves_its_stack(box: Box, task: Callable[[], object], code: int) -> None:
    """The frames at the crash are in the box, and not on the terminal; at most a hundred of them."""
    assert run(box, task, code=-code) == ""

    stack = box.fatal_stack()
    assert stack.startswith("Current thread 0x")
    assert f'File "{__file__}", line ' in stack
    assert 2 <= stack.count("  File ") <= 101
    assert -code in blackbox.FATAL


def test_a_crash_in_a_thread_names_that_thread(box: Box) -> None:
    """All threads are there; the one that crashed is called the current one."""

    def task() -> None:
        thread = threading.Thread(target=crash_here)
        thread.start()
        thread.join()

    run(box, task, code=-signal.SIGSEGV)

    current = next(part for part in box.fatal_stack().split("\n\n") if part.startswith("Current"))
    assert " in crash_here" in current
    assert "threading.py" in current
    assert " in task" in box.fatal_stack()


@pytest.mark.skipif(sys.platform != "linux", reason="another way to start threads")
def test_a_crash_in_a_thread_of_c_leaves_the_python_threads(box: Box) -> None:
    """A library's own thread, which Python does not know, crashes: where Python was is there."""

    def task() -> None:
        libc = ctypes.CDLL(None)
        libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.abort, None)
        time.sleep(30)

    run(box, task, code=-signal.SIGABRT)

    title, frames = told(clean(box.fatal_stack()))
    assert "does not know" in title
    assert " in task" in frames[0]


@pytest.mark.skipif(not DUMP_SIGNAL, reason="no real-time signals on this system")
def test_a_worker_in_a_c_loop_that_holds_the_gil_tells_its_stack(box: Box) -> None:
    """It can be asked, twice even, and goes on; each answer is one stack."""

    def spin() -> None:
        print("spinning", file=sys.stderr)
        re.match(r"(a+)+$", "a" * 60 + "b")

    worker = Worker(box, spin)
    assert until(lambda: "spinning" in box.stderr())
    found = []
    for _ in range(2):
        assert box.ask(worker.pid)
        assert until(box.answered)
        found.append(box.dump())
    os.kill(worker.pid, signal.SIGKILL)

    assert worker.end() == -signal.SIGKILL
    for stack in found:
        assert stack.count("Current thread 0x") == 1
        assert " in spin" in stack
    assert box.dump() == found[1]
    assert box.fatal_stack() == ""


@pytest.mark.skipif(not DUMP_SIGNAL, reason="no real-time signals on this system")
def test_a_worker_that_crashes_after_it_was_asked_leaves_both(box: Box) -> None:
    """The stack of the crash is not taken for the answer, nor the other way round."""

    def task() -> None:
        print("waiting", file=sys.stderr)
        signal.sigwait([signal.SIGUSR1])
        crash_here()

    worker = Worker(box, task, before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]))
    assert until(lambda: box.stderr())
    assert box.ask(worker.pid)
    assert until(box.answered)
    os.kill(worker.pid, signal.SIGUSR1)

    assert worker.end() == -signal.SIGSEGV
    assert " in crash_here" not in box.dump()
    assert " in task" in box.dump()
    assert " in crash_here" in box.fatal_stack()
    assert not box.ask(worker.pid)


def test_a_task_that_looks_after_its_own_crashes_may(box: Box) -> None:
    """``faulthandler.enable()`` in a task sends the stack where the task wants it."""

    def task() -> None:
        faulthandler.enable()
        crash_here()

    assert "Segmentation fault" in run(box, task, code=-signal.SIGSEGV)
    assert box.fatal_stack() == ""


# -- children of a task ---------------------------------------------------------------------


def test_what_a_forked_child_of_the_task_does_is_not_in_the_box(box: Box) -> None:
    """It writes where its parent wrote, may crash, has no handler of ours and no file; the parent's box goes on."""

    def task() -> None:
        sys.stderr.write("parent\n")
        for how in (crash_here, lambda: os.kill(os.getpid(), DUMP_SIGNAL or signal.SIGKILL)):
            pid = os.fork()
            if not pid:
                sys.stderr.write("child\n")
                if faulthandler.is_enabled() or box_files():
                    os._exit(9)
                how()
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) < 0
        sys.stderr.write("parent again\n")
        crash_here()

    def box_files() -> list[str]:
        links = [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3, 64) if os.path.exists(f"/proc/self/fd/{fd}")]
        return [link for link in links if "blackbox" in link][1:]  # the test's own is inherited

    wrote = run(box, task, code=-signal.SIGSEGV)

    assert wrote == "parent\nchild\nchild\nparent again\n"
    assert box.stderr() == "parent\nparent again\n"
    assert box.fatal_stack().count("Current thread") == 1


def test_a_forked_child_gets_back_what_faulthandler_did(box: Box) -> None:
    """Where ``PYTHONFAULTHANDLER`` was set, a child of the task tells its crash on stderr."""

    def task() -> None:
        pid = os.fork()
        if not pid:
            crash_here()
        os.waitpid(pid, 0)

    assert "Segmentation fault" in run(box, task, before=faulthandler.enable)
    assert box.fatal_stack() == ""


def test_a_box_inside_a_forked_worker_is_its_own(box: Box) -> None:
    """A pool in a worker that forks: each process writes its own box, though they share a stderr."""
    inner = Box()

    def nested() -> None:
        sys.stderr.write("outer\n")
        pid = os.fork()
        if not pid:
            blackbox.install(os.dup(inner.fd))
            sys.stderr.write("inner\n")
            crash_here()
        os.waitpid(pid, 0)
        sys.stderr.write("outer again\n")

    assert run(box, nested) == "outer\ninner\nouter again\n"

    assert (box.stderr(), inner.stderr()) == ("outer\nouter again\n", "inner\n")
    assert " in crash_here" in inner.fatal_stack()
    assert box.fatal_stack() == ""
    inner.close()


def test_a_program_that_a_task_starts_does_not_inherit_the_box(box: Box) -> None:
    """The file is closed when a program is executed."""
    run(box, lambda: os._exit(os.get_inheritable(blackbox._fd)))
