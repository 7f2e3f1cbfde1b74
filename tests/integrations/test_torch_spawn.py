"""``torch.multiprocessing.spawn``: its processes get what they were meant to have, and its errors stay its own."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

import pytest

import safemp

try:
    import torch
    import torch.multiprocessing as mp
except ImportError:
    torch = mp = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(torch is None, reason="wants the torch package"),
    pytest.mark.timeout(180),  # each process imports it first
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]


class Exploded(Exception):
    """Pickles, and does not unpickle."""

    def __init__(self, *, rank: int) -> None:
        super().__init__(f"the loss of {rank} is not finite")
        self.rank = rank


class Job:
    """Holds what spawn does not take."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.log = logging.getLogger("job")
        self.scale = lambda x: 2 * x
        self.model = torch.nn.Linear(3, 1)


def work(rank: int, job: Job, answers: Any) -> None:
    """Write what the model makes of *rank* into shared memory."""
    job.log.debug("rank %d", rank)
    with job.lock, torch.no_grad():
        answers[rank] = job.scale(job.model(torch.ones(3) * rank))


def serial(job: Job) -> Any:
    """Do the work of both processes here."""
    answers = torch.zeros(2, 1)
    for rank in range(2):
        work(rank, job, answers)
    return answers


def explode(rank: int, job: Job) -> None:
    """Fail in one of two processes, with the lock held."""
    with job.lock:
        if rank == 1:
            raise Exploded(rank=rank)


def leave(rank: int) -> None:
    """End one of two processes at once."""
    if rank == 0:
        os._exit(3)


def test_spawn_takes_a_job_with_a_lock() -> None:
    """By itself it fails on the lock; inside ``patched()`` its answers are the serial ones, in shared memory."""
    job, answers = Job(), torch.zeros(2, 1).share_memory_()
    with pytest.raises((TypeError, AttributeError)):
        mp.spawn(work, (job, answers), nprocs=1)
    with safemp.patched():
        mp.spawn(work, (job, answers), nprocs=2)

    assert torch.allclose(answers, serial(job))


def test_a_lambda_is_spawned() -> None:
    """So is a closure: it goes by value."""
    answers = torch.zeros(2).share_memory_()

    def fill(rank: int) -> None:
        answers[rank] = rank + 1

    with safemp.patched():
        mp.spawn(fill, nprocs=2)

    assert answers.tolist() == [1, 2]


@pytest.mark.parametrize("method", ["spawn", "forkserver", None])
def test_our_context_starts_the_same_processes(method: str | None) -> None:
    """With ``safemp.get_context`` and nothing patched, tensors stay shared and the job arrives."""
    job, answers = Job(), torch.zeros(2, 1).share_memory_()
    context = safemp.get_context(method)
    processes = [context.Process(target=work, args=(rank, job, answers)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)

    assert [process.exitcode for process in processes] == [0, 0]
    assert torch.allclose(answers, serial(job))


def test_an_error_stays_as_pytorch_has_it() -> None:
    """``ProcessRaisedException`` with the text of the traceback, ``ProcessExitedException`` with the exit code."""
    with safemp.patched(), pytest.raises(mp.ProcessRaisedException) as raised:
        mp.spawn(explode, (Job(),), nprocs=2)
    assert raised.value.error_index == 1
    assert "Exploded: the loss of 1 is not finite" in str(raised.value)
    assert "in explode\n    raise Exploded(rank=rank)" in str(raised.value)

    with safemp.patched(), pytest.raises(mp.ProcessExitedException) as exited:
        mp.spawn(leave, nprocs=2)
    assert (exited.value.error_index, exited.value.exit_code) == (0, 3)


def test_what_cannot_be_sent_is_named_before_there_is_a_process() -> None:
    """The path begins with the arguments that ``spawn`` makes."""
    with safemp.patched(), pytest.raises(safemp.PreflightError) as caught:
        mp.spawn(work, ({"rows": (n for n in range(3))}, None), nprocs=2)

    assert [culprit.path for culprit in caught.value.culprits] == ["args[2][0]['rows']"]
