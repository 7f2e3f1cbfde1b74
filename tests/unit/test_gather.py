"""``Gather``: all results of a map, however its outcomes arrive."""

from __future__ import annotations

import random
from typing import Any

import pytest

from safemp.batch import Batch
from safemp.codec.frames import Frames
from safemp.codec.repairs import ALL
from safemp.engines import Task
from safemp.failures import OnError
from safemp.results import Gather


class Held:
    """An engine that only keeps what it is given."""

    max_workers = 1
    main_by_name = True
    policy = ALL

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def submit(self, task: Task) -> None:
        """Keep *task*."""
        self.tasks.append(task)

    def hold(self, frames: Frames) -> Frames:
        """Have no memory of its own."""
        return frames


def play(seed: int, on_error: OnError | None) -> None:
    """Have outcomes arrive in any order and in pieces; look at what is there after each."""
    chance = random.Random(seed)
    n, size = chance.randrange(1, 30), chance.randrange(1, 8)
    bad = {i for i in range(n) if chance.random() < 0.15}
    engine = Held()
    gather = Gather(engine, abs, range(n), size, on_error=on_error)  # type: ignore[arg-type]
    arrived: set[int] = set()
    done = 0
    gather.when_done(lambda: count())

    def count() -> None:
        nonlocal done
        done += 1

    waiting = list(engine.tasks)
    begun: list[Task] = []
    while waiting or begun:
        if waiting and (not begun or chance.random() < 0.5):
            task = waiting.pop(0)
            if task.begin():
                begun.append(task)
            else:
                assert on_error == "raise"
                assert arrived & bad, "dropped, and nothing has failed"
                assert task.first > min(arrived & bad), "dropped, though a loop would have come to it"
            continue
        task = chance.choice(begun)
        many = chance.randrange(1, task.count - task.done + 1)
        first, task.done = task.done, task.done + many
        items = range(task.first + first, task.first + task.done)
        arrived.update(items)
        if task.done == task.count:
            begun.remove(task)
        task.deliver(first, [ValueError(i) if i in bad else i for i in items])
        failed = arrived & bad if on_error == "raise" else set()
        over = arrived >= set(range(min(failed) if failed else n))
        assert gather.done() == over == bool(done)

    assert done == 1
    check(gather, bad, n, on_error)


def check(gather: Gather, bad: set[int], n: int, on_error: OnError | None) -> None:
    """Look at what comes out in the end."""
    if not bad or on_error == "return":
        found: list[Any] = gather.result()
        assert [isinstance(each, BaseException) for each in found] == [i in bad for i in range(n)]
        return
    with pytest.raises(BaseException) as caught:
        gather.result()
    if on_error == "collect":
        assert caught.value.items == tuple(sorted(bad))  # type: ignore[attr-defined]
    else:
        assert caught.value.args == (min(bad),)


@pytest.mark.parametrize("on_error", [None, "raise", "collect", "return"])
def test_a_map_is_over_when_what_counts_is_there(on_error: OnError | None) -> None:
    """All outcomes; with ``"raise"``, once one has failed, those before it, of which none is dropped."""
    for seed in range(400):
        play(seed, on_error)


def test_a_cancelled_batch_begins_nothing() -> None:
    """``cancel`` without an end drops every chunk; with one, those behind it."""
    engine = Held()
    batch = Batch(engine, abs, lambda first, outcomes: None)  # type: ignore[arg-type]
    tasks = [batch.encode(range(3), first) for first in (0, 3, 6)]
    batch.cancel(4)
    assert [task.begin() for task in tasks] == [True, True, False]
    batch.cancel()

    assert [task.begin() for task in tasks] == [False, False, False]
