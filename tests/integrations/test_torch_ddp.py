"""Two processes train by ``DistributedDataParallel``; module and dataset hold what spawn does not take."""

from __future__ import annotations

import logging
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import datetime_CAPI  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

import pytest

import safemp

try:
    import torch
    import torch.distributed as dist
    import torch.multiprocessing as mp
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader
    from torch.utils.data.distributed import DistributedSampler
except ImportError:
    torch = dist = mp = DistributedDataParallel = DataLoader = DistributedSampler = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(torch is None, reason="wants the torch package"),
    pytest.mark.timeout(400),  # three pairs of processes import it first
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]

STEPS, WORLD, ROWS = 4, 2, 8


class Module(torch.nn.Linear if torch is not None else object):  # type: ignore[misc]  # there are no types here
    """A linear one, the same each time."""

    def __init__(self) -> None:
        super().__init__(3, 1)
        with torch.no_grad():
            self.weight.copy_(torch.tensor([[0.5, -1.0, 2.0]]))
            self.bias.zero_()


class Rows(torch.utils.data.Dataset if torch is not None else object):  # type: ignore[misc]
    """Rows of a table, and the sum of each."""

    def __len__(self) -> int:
        return STEPS * WORLD * ROWS

    def __getitem__(self, index: int) -> Any:
        row = torch.sin(torch.arange(3.0) + index)
        return row, row.sum(0, keepdim=True)


class LockedModule(Module):
    """Cannot be spawned."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()
        self.log = logging.getLogger("module")
        self.pointer = datetime_CAPI
        self.register_forward_hook(lambda module, inputs, output: 1.0 * output)

    def forward(self, x: Any) -> Any:
        """Do as the other one, with the lock held."""
        self.log.debug("forward")
        with self.lock:
            return super().forward(x)


class LockedRows(Rows):
    """Cannot be spawned."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.handler = logging.StreamHandler()
        self.transform = lambda row: 1.0 * row

    def __getitem__(self, index: int) -> Any:
        with self.lock:
            row, total = super().__getitem__(index)
            return self.transform(row), total


def train(rank: int, url: str, module: Any, rows: Any, losses: Any) -> None:
    """Train as one of the processes, and write down the losses."""
    torch.set_num_threads(1)
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()  # it is in memory that both processes share
    dist.init_process_group("gloo", init_method=url, rank=rank, world_size=WORLD)
    try:
        steps(rank, module, rows, losses)
        dist.barrier()  # none leaves while the other still talks to it
    finally:
        dist.destroy_process_group()
    # Once, on a busy machine, C++ aborted one of these ("terminate called without an active
    # exception"); where is not known. What torch does at exit is not what is tested here.
    os._exit(0)


def steps(rank: int, module: Any, rows: Any, losses: Any) -> None:
    """Make all steps; when this returns, nothing of the training holds the process group any more."""
    model = DistributedDataParallel(module)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    sampler = DistributedSampler(rows, WORLD, rank, shuffle=False)
    for step, (x, y) in enumerate(DataLoader(rows, ROWS, sampler=sampler)):
        loss = ((model(x) - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[rank, step] = loss.item()


def serial() -> Any:
    """Compute both processes' losses here, from the mean of their gradients."""
    model, losses = Module(), torch.zeros(WORLD, STEPS)
    rows = [Rows()[i] for i in range(len(Rows()))]
    for step in range(STEPS):
        total = 0.0
        for rank in range(WORLD):
            mine = rows[rank::WORLD][step * ROWS : (step + 1) * ROWS]
            x, y = (torch.stack(part) for part in zip(*mine, strict=True))
            loss = ((model(x) - y) ** 2).mean()
            losses[rank, step] = loss.item()
            total = total + loss / WORLD
        gradients = torch.autograd.grad(total, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= 0.05 * gradient
    return losses


def run(start: Callable[[tuple[Any, ...]], object], module: Any, rows: Any) -> Any:
    """Train by the processes that *start* starts; return the losses."""
    losses = torch.zeros(WORLD, STEPS).share_memory_()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")  # they talk by 127.0.0.1, and find each other by a file
        start((f"file://{folder}/store", module, rows, losses))
    return losses


def spawn(args: tuple[Any, ...]) -> None:
    """Start them as PyTorch does."""
    mp.spawn(train, args, nprocs=WORLD)


def patched(args: tuple[Any, ...]) -> None:
    """Do the same inside ``patched()``."""
    with safemp.patched():
        spawn(args)


def by_context(args: tuple[Any, ...]) -> None:
    """Start them by our context."""
    processes = [safemp.get_context("spawn").Process(target=train, args=(rank, *args)) for rank in range(WORLD)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0] * WORLD


def test_losses_are_those_of_the_run_without_culprits() -> None:
    """By itself it fails on the lambda, or the lock; inside ``patched()``, or by our context, each loss is the same."""
    with pytest.raises(AttributeError, match=r"Can't pickle local object 'LockedModule.__init__.<locals>.<lambda>'"):
        run(spawn, LockedModule(), Rows())
    with pytest.raises(TypeError, match=r"cannot pickle '_thread.lock' object"):
        run(spawn, Module(), LockedRows())
    plain = run(spawn, Module(), Rows())
    assert torch.allclose(plain, serial())
    assert len(set(plain.flatten().tolist())) == WORLD * STEPS

    assert torch.equal(run(patched, LockedModule(), LockedRows()), plain)
    assert torch.equal(run(by_context, LockedModule(), LockedRows()), plain)


def test_a_culprit_is_named_before_there_is_a_process(tmp_path: Path) -> None:
    """In the module, by its path."""
    module = LockedModule()
    with closing(sqlite3.connect(tmp_path / "base")) as module.base, safemp.patched():
        with pytest.raises(safemp.PreflightError) as caught:
            mp.spawn(train, ("tcp://127.0.0.1:1", module, Rows(), None), nprocs=WORLD)

        assert [culprit.path for culprit in caught.value.culprits] == ["args[2][1].base"]
