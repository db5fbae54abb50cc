"""Data parallel training on two processes: one device, one noise stream for each rank, one model."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import photonic

RANKS = 2


def _train(rank: int, port: int, folder: str) -> None:
    """Two steps on the default chip; saves what the test compares."""
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, RANKS, is_master=rank == 0)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    try:
        torch.manual_seed(rank)  # DDP gives every rank the weights of rank 0
        plain = nn.Sequential(nn.Conv1d(2, 4, 3), nn.Flatten(), nn.Linear(24, 3))
        model = photonic.convert_(plain, photonic.open_backend("sim", seed=7))
        photonic.set_input_range(model, {"2": 4.0}, learned=True)
        parallel = DistributedDataParallel(model)
        optimiser = torch.optim.SGD(parallel.parameters(), lr=0.1)
        x = torch.linspace(-1, 1, 5 * 2 * 8).reshape(5, 2, 8)
        with torch.no_grad():
            y = parallel(x)
        for _ in range(2):
            optimiser.zero_grad()
            parallel(x).square().mean().backward()
            optimiser.step()
        calls = [row.usage.calls for row in photonic.routes(model)]
        torch.save({"y": y, "calls": calls, **model.state_dict()}, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_train_one_model_with_noise_of_their_own(tmp_path: Path) -> None:
    """Equal inputs and weights, different noise; gradients are averaged, so the weights stay equal."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_train, args=(port, str(tmp_path)), nprocs=RANKS)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(RANKS))
    assert one.pop("calls") == two.pop("calls") == [3, 3]
    noise = one.pop("y"), two.pop("y")
    assert not torch.equal(*noise)
    torch.testing.assert_close(*noise, rtol=0.5, atol=0.5)
    assert "2.input_range" in one
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=0, atol=0)
