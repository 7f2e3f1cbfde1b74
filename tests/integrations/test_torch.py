"""PyTorch: models, tensors, random generators and errors go to workers and come back as they are."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Iterator
from datetime import datetime_CAPI  # type: ignore[attr-defined]
from typing import Any

import pytest

import safemp
from safemp.codec.libraries import torch as rules
from tests.support.errors import KeywordOnly

try:
    import torch
except ImportError:
    torch = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(torch is None, reason="wants the torch package"),
    pytest.mark.timeout(120),  # a worker imports it first
]


@pytest.fixture(scope="module")
def executor() -> Iterator[safemp.SafeExecutor]:
    """Two workers for the module; torch takes its time to be imported."""
    with safemp.SafeExecutor(2) as executor:
        yield executor


def draw(generator: Any) -> Any:
    """Draw three numbers."""
    return torch.rand(3, generator=generator)


def call(model: Any, x: Any) -> Any:
    """Run a model without its gradients."""
    with torch.no_grad():
        return model(x)


def rebuilt(generator: Any) -> Any:
    """Do what a stream does with the reduce value of the rule for a torch whose generators do not pickle."""
    make, args, state, _, _, set_state = rules._generator(generator)
    made = make(*args)
    set_state(made, state)
    return made


@pytest.mark.parametrize("way", ["worker", "dumps", "rule"])
def test_a_generator_goes_on_from_its_state(executor: safemp.SafeExecutor, way: str) -> None:
    """The copy draws what the original would draw next."""
    generator = torch.Generator().manual_seed(5)
    draw(generator)
    if way == "worker":
        there = executor.submit(draw, generator).result(60)
    else:
        there = draw(rebuilt(generator) if way == "rule" else pickle.loads(safemp.dumps(generator)))

    assert torch.equal(there, draw(generator))


def test_a_model_with_a_lock_and_a_lambda_works_there(executor: safemp.SafeExecutor) -> None:
    """What plain pickle refuses in it arrives; the answer is the one of here."""
    model = torch.nn.Linear(3, 2)
    model.lock = threading.RLock()
    model.scale = lambda x: 2 * x
    x = torch.arange(3.0)
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(model)

    assert torch.equal(executor.submit(call, model, x).result(100), call(model, x))
    assert torch.equal(executor.submit(lambda m, x: m.scale(call(m, x)), model, x).result(100), 2 * call(model, x))


def test_tensors_come_and_go(executor: safemp.SafeExecutor) -> None:
    """Large and small ones, views and other types, whole or in a map."""
    tensors = [torch.arange(1e6), torch.arange(12).reshape(3, 4).T, torch.zeros(0), torch.tensor([True, False])]

    for there, here in zip(executor.map(torch.clone, tensors), tensors, strict=True):
        assert there.dtype == here.dtype
        assert torch.equal(there, here)


def test_errors_arrive_as_themselves(executor: safemp.SafeExecutor) -> None:
    """The library's own classes, and those that its C++ raises."""
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        executor.submit(torch.nn.Linear(3, 2), torch.zeros(7)).result(60)
    with pytest.raises(torch.OutOfMemoryError, match="none left"):
        executor.submit(raise_it, torch.OutOfMemoryError("none left")).result(60)


def raise_it(error: BaseException) -> None:
    """Raise what is given."""
    raise error


class Numbers:
    """A dataset that holds what spawn does not take."""

    def __init__(self) -> None:
        self.log = logging.getLogger("numbers")
        self.lock = threading.RLock()
        self.transform = lambda x: 3 * x
        self.capsule = datetime_CAPI
        self.seeded = torch.Generator().manual_seed(5)  # its pickle makes a tensor, which nobody else holds

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        with self.lock:
            if self.capsule is not datetime_CAPI:
                raise AssertionError("the capsule is not that of the module")
            if self.seeded.initial_seed() != 5:
                raise AssertionError("the generator is another one")
            return self.transform(torch.tensor([float(index), 1.0]))


@pytest.mark.parametrize("method", ["spawn", "forkserver", None])
def test_a_data_loader_takes_our_context(method: str | None) -> None:
    """``DataLoader`` fails with stock spawn; with ours its batches are the serial ones."""
    load = torch.utils.data.DataLoader
    with pytest.warns(UserWarning, match="pickle error"), pytest.raises((TypeError, AttributeError)):
        next(iter(load(Numbers(), num_workers=1, multiprocessing_context="spawn")))

    there = list(load(Numbers(), batch_size=6, num_workers=2, multiprocessing_context=safemp.get_context(method)))
    here = list(load(Numbers(), batch_size=6))
    assert len(there) == len(here) == 4
    assert all(torch.equal(a, b) for a, b in zip(there, here, strict=True))


class Torn(Numbers):
    """The same, with an item whose error torch cannot make again: its constructor wants keywords."""

    def __getitem__(self, index: int) -> Any:
        if index == 7:
            raise KeywordOnly(status=422, text="torn")
        return super().__getitem__(index)


def test_an_error_out_of_a_dataset_is_torchs_own() -> None:
    """Torch sends the text, and says class and place in it; batches before it are there, and nothing hangs."""
    loader = torch.utils.data.DataLoader(
        Torn(), batch_size=5, num_workers=2, multiprocessing_context=safemp.get_context("spawn")
    )
    batches = iter(loader)

    assert torch.equal(next(batches), next(iter(torch.utils.data.DataLoader(Numbers(), batch_size=5))))
    with pytest.raises(RuntimeError, match=r"Caught KeywordOnly in DataLoader worker process 1\.") as caught:
        next(batches)
    assert "torn" in str(caught.value)
    assert "in __getitem__" in str(caught.value)
