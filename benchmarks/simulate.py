"""How far one caller reaches: ``python -m benchmarks.simulate [--engine local|dask|ray]``.

First it measures here, with calls that do nothing, what a call costs the caller. Then a discrete-event
simulation is given these numbers and nothing else. It is compared with what is measured of calls that sleep, with
up to 32 workers, and says what is to be expected of 10, 1 000 and 100 000.

The model: a caller does one thing at a time, since its threads share one GIL.

    submit ──▶ ready ──send──▶ worker: overhead, then the task ──▶ answers ──take──▶ done
               └──────────────── the caller's ────────────────────────┘

* It pays ``submit`` for each call, ``task`` for handing it out and taking its answer, and ``turn`` whenever it
  turns to its workers, for all answers that are there and all tasks that can go. So a busy caller pays less
  for a call than an idle one, which is woken for each.
* A worker pays ``overhead`` for each task. It has as many tasks ahead as the engine sends.
* A message is under way for ``way``.
* ``cores``: how many of all these can compute at the same time. Workers of other machines have their own.

A submitter of a tree is a worker for the caller above it, and a caller for those below.
"""

from __future__ import annotations

import argparse
import heapq
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import asdict, dataclass, replace
from itertools import count
from statistics import median
from typing import Any, NamedTuple

import safemp

# -- the simulation --------------------------------------------------------------------


@dataclass(frozen=True)
class Costs:
    """What a call costs, in seconds.

    Attributes:
        submit: The caller, to make it.
        task: The caller, to hand it out, take its answer and load that.
        turn: The caller, for all that it hands out and takes at one time.
        item: The caller, for one more item of a chunk.
        overhead: The worker.
        way: From one to the other, beside all of these.
    """

    submit: float = 0.0
    task: float = 0.0
    turn: float = 0.0
    item: float = 0.0
    overhead: float = 0.0
    way: float = 0.0

    @property
    def busy(self) -> float:
        """What a call costs a caller that is busy, in one chunk with no other."""
        return self.submit + self.task + self.item


class Clock:
    """What happens, in its order.

    Attributes:
        now: Seconds.
    """

    def __init__(self) -> None:
        self.now: float = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        """Have *then* called so much later."""
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), then))

    def run(self) -> float:
        """Let it all happen; return when the last of it did."""
        while self._events:
            self.now, _, then = heapq.heappop(self._events)
            then()
        return self.now


class Cores:
    """Processors of one machine: who wants one waits its turn. ``None``: there is one for everybody."""

    def __init__(self, clock: Clock, number: int | None) -> None:
        self._clock = clock
        self._free = number
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()

    def use(self, seconds: float, then: Callable[[], None]) -> None:
        """Compute for so long, then call *then*."""
        if self._free is None or not seconds:
            self._clock.after(seconds, then)
        elif self._free:
            self._free -= 1
            self._clock.after(seconds, lambda: self._end(then))
        else:
            self._waiting.append((seconds, then))

    def _end(self, then: Callable[[], None]) -> None:
        if self._waiting:
            seconds, other = self._waiting.popleft()
            self._clock.after(seconds, lambda: self._end(other))
        elif self._free is not None:
            self._free += 1
        then()


class Worker:
    """Does one task after another.

    Args:
        clock: Everybody's.
        cores: Of its machine.
        overhead: Seconds for each task.
        seconds: That an item takes.
    """

    def __init__(self, clock: Clock, cores: Cores, overhead: float, seconds: float) -> None:
        self._clock, self._cores, self._overhead, self._seconds = clock, cores, overhead, seconds
        self._tasks: deque[tuple[int, Callable[[], None]]] = deque()

    def take(self, items: int, done: Callable[[], None]) -> None:
        """Take a task of so many items."""
        self._tasks.append((items, done))
        if len(self._tasks) == 1:
            self._begin()

    def _begin(self) -> None:
        items = self._tasks[0][0]
        self._cores.use(self._overhead, lambda: self._clock.after(items * self._seconds, self._end))

    def _end(self) -> None:
        self._tasks[0][1]()
        self._tasks.popleft()
        if self._tasks:
            self._begin()


class Caller:
    """Hands out tasks, one thing at a time.

    Args:
        clock: Everybody's.
        cores: Of its machine.
        costs: What its things cost.
        workers: They take what it hands out.
        depth: The most tasks that one of them has at a time.
    """

    SLICE = 16
    """Calls that are made before answers are looked at again."""

    def __init__(self, clock: Clock, cores: Cores, costs: Costs, workers: list[Any], depth: int = 1) -> None:
        self._clock, self._cores, self._costs, self._workers = clock, cores, costs, workers
        self._wanted: deque[tuple[int, Callable[[], None]]] = deque()
        self._ready: deque[tuple[int, Callable[[], None]]] = deque()
        # One entry for each task that a worker has room for; all get one before any gets a second.
        self._room: deque[int] = deque(i for _ in range(depth) for i in range(len(workers)))
        self._answers: list[tuple[int, Callable[[], None]]] = []
        self._busy = False
        self._turn = 0
        self.spent: float = 0.0

    def submit(self, items: int, done: Callable[[], None]) -> None:
        """Make a call, or a chunk of *items*; *done* is called when the caller has its answer."""
        self._wanted.append((items, done))
        self._go_on()

    def _go_on(self) -> None:
        if self._busy:
            return
        self._turn ^= 1
        if self._wanted and (self._turn or not self._has_work()):
            self._make()
        elif self._has_work():
            self._serve()

    def _has_work(self) -> bool:
        return bool(self._answers or (self._ready and self._room))

    def _spend(self, seconds: float, then: Callable[[], None]) -> None:
        self._busy = True
        self.spent += seconds

        def end() -> None:
            self._busy = False
            then()
            self._go_on()

        self._cores.use(seconds, end)

    def _make(self) -> None:
        made = [self._wanted.popleft() for _ in range(min(self.SLICE, len(self._wanted)))]
        seconds = sum(self._costs.submit + items * self._costs.item for items, _ in made)
        self._spend(seconds, lambda: self._ready.extend(made))

    def _serve(self) -> None:
        answers, self._answers = self._answers, []
        self._room.extend(worker for worker, _ in answers)
        sent = [(self._room.popleft(), *self._ready.popleft()) for _ in range(min(len(self._room), len(self._ready)))]
        tasks = (len(answers) + len(sent)) / 2

        def end() -> None:
            for worker, items, done in sent:
                self._clock.after(self._costs.way, lambda w=worker, i=items, d=done: self._arrive(w, i, d))  # type: ignore[misc]
            for _, done in answers:
                done()

        self._spend(self._costs.turn + tasks * self._costs.task, end)

    def _arrive(self, worker: int, items: int, done: Callable[[], None]) -> None:
        self._workers[worker].take(items, lambda: self._clock.after(self._costs.way, lambda: self._take(worker, done)))

    def _take(self, worker: int, done: Callable[[], None]) -> None:
        self._answers.append((worker, done))
        self._go_on()


class Submitter:
    """A worker that hands the items of a chunk to workers of its own, in chunks of *chunk*."""

    def __init__(self, caller: Caller, chunk: int) -> None:
        self._caller, self._chunk = caller, chunk

    def take(self, items: int, done: Callable[[], None]) -> None:
        """Take a chunk of so many items."""
        parts = [min(self._chunk, items - first) for first in range(0, items, self._chunk)]
        left = len(parts)

        def one() -> None:
            nonlocal left
            left -= 1
            if not left:
                done()

        for part in parts:
            self._caller.submit(part, one)


class Run(NamedTuple):
    """What came of a simulation.

    Attributes:
        seconds: Until the caller had the last answer.
        busy: Those of them in which it computed.
    """

    seconds: float
    busy: float


def simulate(
    costs: Costs,
    *,
    workers: int,
    tasks: int,
    seconds: float,
    chunk: int = 1,
    depth: int = 1,
    cores: int | None = None,
    below: Costs | None = None,
    each: int = 50,
    part: int = 1,
) -> Run:
    """Let a caller have so many tasks done.

    Args:
        costs: The caller's, and its workers'.
        workers: How many there are that run tasks.
        tasks: How many there are, of as many calls, or of chunks.
        seconds: That each takes.
        chunk: Tasks in one message.
        depth: Messages that a worker has at a time.
        cores: That caller and workers share; ``None``: each has its own.
        below: Those of submitters; then workers belong to these, and chunks go to them. ``None``: there are none.
        each: Workers that a submitter has.
        part: Tasks in one message of a submitter's.
    """
    clock = Clock()
    shared = Cores(clock, cores)
    of_caller = Cores(clock, None) if cores is None else shared

    def made(number: int, overhead: float) -> list[Any]:
        return [Worker(clock, shared, overhead, seconds) for _ in range(number)]

    if below is None:
        hands = made(workers, costs.overhead)
    else:
        hands = [
            Submitter(Caller(clock, of_caller, below, made(min(each, workers - first), below.overhead)), part)
            for first in range(0, workers, each)
        ]
        depth = 2  # so that the next chunk is there when one is done
    caller = Caller(clock, of_caller, costs, hands, depth)
    ended = [0, 0.0]

    def done(items: int) -> None:
        ended[:] = ended[0] + items, clock.now

    for first in range(0, tasks, chunk):
        items = min(chunk, tasks - first)
        caller.submit(items, lambda items=items: done(items))  # type: ignore[misc]
    clock.run()
    assert ended[0] == tasks
    return Run(ended[1], caller.spent)


# -- measuring -------------------------------------------------------------------------


def nothing(n: float = 0) -> float:
    return n


def nap(seconds: float) -> None:
    time.sleep(seconds)


def _spent(pids: list[int]) -> float:
    """Return the processor time that processes have used (Linux), in seconds; of nobody: 0."""
    total = 0
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
    return total / 1e9


def measure(executor: safemp.SafeExecutor, rounds: int, calls: int = 2000) -> Costs:
    """Measure, with calls that do nothing, what a call costs.

    Of some rounds the medians, but the quickest way: a message waits for a processor that others use.
    """
    found: list[Costs] = []
    wait([executor.submit(nothing) for _ in range(calls)])
    pids = list(executor._processes)
    for _ in range(rounds):
        before, workers, began = time.process_time(), _spent(pids), time.thread_time()
        futures = [executor.submit(nothing) for _ in range(calls)]
        submit = (time.thread_time() - began) / calls
        for future in futures:
            future.result()
        storm = (time.process_time() - before) / calls
        overhead = (_spent(pids) - workers) / calls
        began, before = time.perf_counter(), time.process_time()
        for _ in range(calls // 10):
            executor.submit(nothing).result()
        trip = (time.process_time() - before) / (calls // 10)
        took = (time.perf_counter() - began) / (calls // 10)
        before = time.process_time()
        items = 50 * calls
        for _ in executor.map(nothing, range(items), chunksize=1000):
            pass
        item = (time.process_time() - before) / items
        turn = max(0.0, trip - storm) / 2
        way = max(0.0, took - trip - overhead) / 2
        found.append(Costs(submit, max(0.0, storm - submit), turn, item, overhead, way))
    middle = Costs(**{name: median(asdict(each)[name] for each in found) for name in asdict(found[0])})
    return replace(middle, way=min(each.way for each in found))


def _depth(seconds: float) -> int:
    """Return how many tasks the local engine sends to a worker that take so long (``safemp.engines.ahead``)."""
    return max(1, min(64, int(0.002 / max(seconds, 1e-6))))


def reproduce(costs: Costs, rounds: int) -> None:
    """Compare simulated with measured calls that sleep, on this machine.

    Costs are processor times. Who else uses the processors is not in the model.
    """
    print(
        "\n| workers | a task sleeps | measured | simulated | ratio | caller computes, measured | simulated | ratio |"
    )
    print("|---|---|---|---|---|---|---|---|")
    cores = len(os.sched_getaffinity(0))
    for workers in (2, 8, 32):
        with safemp.SafeExecutor(workers) as executor:
            wait([executor.submit(nap, 0.01) for _ in range(4 * workers)])
            for seconds in (0.0, 0.001, 0.005, 0.02):
                tasks = 2000 if not seconds else max(200, min(2000, int(workers / seconds)))
                took, slept, used = [], [], []
                for _ in range(rounds):
                    began, before = time.perf_counter(), time.process_time()
                    for future in [executor.submit(nap if seconds else nothing, seconds) for _ in range(tasks)]:
                        future.result()
                    took.append((time.perf_counter() - began) / tasks)
                    used.append((time.process_time() - before) / tasks)
                    began = time.perf_counter()
                    for _ in range(20 if seconds else 0):
                        nap(seconds)
                    slept.append((time.perf_counter() - began) / 20)
                real = min(slept)  # a sleep takes longer than it is told to
                how = {"workers": workers, "tasks": tasks, "seconds": real, "depth": _depth(real), "cores": cores}
                said, busy = (each / tasks for each in simulate(costs, **how))
                here, ours = min(took), min(used)
                print(
                    f"| {workers} | {seconds * 1e3:g} ms | {here * 1e6:,.0f} µs | {said * 1e6:,.0f} µs"
                    f" | {said / here:.2f} | {ours * 1e6:,.0f} µs | {busy * 1e6:,.0f} µs | {busy / ours:.2f} |",
                    flush=True,
                )


def reach(costs: Costs, below: Costs, sizes: tuple[int, ...]) -> None:
    """Say what part of their time workers are at tasks, by their number and by what a task takes."""
    print(f"\n| workers | a task takes | calls | chunks of {CHUNK} | tree | tree, chunks of {CHUNK} |")
    print("|---|---|---|---|---|---|")
    for workers in sizes:
        few = 3 if workers > 10_000 else 12
        for seconds in (0.001, 0.01, 0.1, 1.0, 60.0):

            def part(ours: int, **how: Any) -> str:
                """Simulate so many tasks a worker."""
                took = simulate(workers=workers, seconds=seconds, tasks=ours * workers, **how).seconds  # noqa: B023
                return f"{100 * ours * seconds / took:.3g} %"  # noqa: B023

            calls = part(few, costs=costs)
            chunks = part(few * CHUNK, costs=costs, chunk=CHUNK)
            of_tree: dict[str, Any] = {"costs": costs, "below": below, "each": min(EACH, workers)}
            chunk = 2 * of_tree["each"]
            tree = part(8, chunk=chunk, **of_tree)
            both = part(8 * CHUNK, chunk=CHUNK * chunk, part=CHUNK, **of_tree)
            print(f"| {workers:,} | {seconds:g} s | {calls} | {chunks} | {tree} | {both} |", flush=True)


CHUNK = 20
"""Tasks in a chunk."""

EACH = 50
"""Workers of a submitter: those of a large machine. A chunk for one has two messages for each of them."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", choices=["local", "dask", "ray"], default="local", help="whose caller is measured")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--most", type=int, default=100_000, help="workers; 100 000 take some minutes")
    options = parser.parse_args()

    with safemp.SafeExecutor(2) as executor:
        below = measure(executor, options.rounds)
    costs = below
    if options.engine != "local":
        with safemp.SafeExecutor(2, engine=options.engine) as executor:
            costs = measure(executor, options.rounds, 500)
    print("| µs | " + " | ".join(asdict(costs)) + " |\n|---|" + "---|" * len(asdict(costs)))
    for name, each in {"local": below, options.engine: costs}.items():
        print(f"| {name} | " + " | ".join(f"{seconds * 1e6:.3g}" for seconds in asdict(each).values()) + " |")
    if options.engine == "local":
        reproduce(costs, options.rounds)
    reach(costs, below, tuple(n for n in (10, 1_000, 100_000) if n <= options.most))


if __name__ == "__main__":
    main()
