"""mmengine's runner: its dataset holds mmengine's own logger, a lock and a lambda, and its workers are spawned."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.child import run_script

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("mmengine") is None, reason="wants the mmengine package"),
    pytest.mark.timeout(240),  # each process imports torch first
]

PROGRAM = """
import threading
import warnings

import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader, SequentialSampler

import safemp

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, index):
        row = torch.sin(torch.arange(3.0) + index)
        return row, row.sum(0, keepdim=True)

class Logged(Rows):
    def __init__(self):
        self.log = MMLogger.get_current_instance()
        self.lock = threading.RLock()
        self.transform = lambda row: 1.0 * row

    def __getitem__(self, index):
        with self.lock:
            row, total = super().__getitem__(index)
        self.log.debug("row %d", index)
        return self.transform(row), total

class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        torch.nn.init.ones_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)
        self.losses = []

    def forward(self, x, y, mode="loss"):
        loss = ((self.layer(x) - 2 * y) ** 2).mean()
        self.losses.append(loss.item())
        return {"loss": loss}

def train(name, rows, context):
    loader = DataLoader(
        rows, batch_size=8, num_workers=2, sampler=SequentialSampler(rows), multiprocessing_context=context
    )
    model = Model()
    runner = Runner(
        model=model,
        work_dir="work",
        train_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": 1},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}},
        default_hooks={"checkpoint": None},
        log_level="ERROR",
        experiment_name=name,
    )
    runner.train()
    return model.losses

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(train("plain", Rows(), "spawn"))
    MMLogger.get_instance("mine")
    try:
        train("stock", Logged(), "spawn")
    except Exception as error:
        print(repr(str(error)))
    print(train("ours", Logged(), safemp.get_context("spawn")))
"""


def test_the_runner_trains_with_spawned_workers(tmp_path: Path) -> None:
    """By itself it fails on its own logger; by our context its losses are those of the run without the culprits."""
    ended = run_script(tmp_path, PROGRAM, timeout=180)

    assert (ended.returncode, ended.left) == (0, ()), str(ended)
    plain, stock, ours = map(ast.literal_eval, ended.out.splitlines())
    assert stock == "logger cannot be pickled"
    assert ours == plain
    assert len(set(plain)) == 4
