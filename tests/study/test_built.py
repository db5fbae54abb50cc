"""The network of a cell with its noise: same first weights, noise that is keyed, spec strings, transfer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from photonic.errors import SpecError
from photonic.study.built import Built, record_files, spec_of
from photonic.study.cell import Cell
from photonic.study.images import load_samples
from photonic.study.running import Runner, Setting

SHAPE = (1, 8, 8)
STUDY = {"precision": 64, "ep": 0.5, "n_conv": 2, "n_linear": 1}


def images() -> Tensor:
    return torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))


def weights(cell: Cell) -> list[Tensor]:
    with Built(cell, SHAPE, 10, None) as built:
        return [parameter.detach().clone() for parameter in built.network.parameters()]


def test_all_activations_and_noises_of_a_seed_begin_with_the_same_weights() -> None:
    first = weights(Cell(**STUDY, seed=3))
    for cell in (
        Cell(**STUDY, seed=3, activation="silu"),
        Cell(**STUDY, seed=3, activation="gelu", interpolation=0.5, noise="uniform"),
        Cell(backend="digital", n_conv=2, n_linear=1, seed=3),
        Cell(backend="twin", n_conv=2, n_linear=1, seed=3),
    ):
        for mine, theirs in zip(sorted(weights(cell), key=_size), sorted(first, key=_size), strict=True):
            assert torch.equal(mine, theirs)
    assert not torch.equal(weights(Cell(**STUDY, seed=4))[0], first[0])


def _size(weight: Tensor) -> int:
    return weight.numel()


def test_the_noise_is_fresh_at_every_forward_and_keyed_by_seed_and_epoch() -> None:
    def outputs(epoch: int) -> tuple[Tensor, Tensor]:
        with Built(Cell(**STUDY), SHAPE, 10, None) as built, torch.no_grad():
            built.begin_epoch(epoch)
            return built.network(images()), built.network(images())

    one, two = outputs(1)
    assert not torch.equal(one, two)
    assert torch.equal(outputs(1)[0], one)
    assert not torch.equal(outputs(2)[0], one)


def test_the_logits_of_the_study_s_convnet_are_digital_values() -> None:
    with Built(Cell(**STUDY), SHAPE, 10, None) as built, torch.no_grad():
        steps = built.network(images()) * 64
    assert torch.equal(steps, steps.round())
    assert steps.abs().max() <= 64


def test_quantisation_alone_repeats_itself() -> None:
    cell = Cell(precision=4, ep=0.0, noise="quantisation", n_conv=2, n_linear=1)
    with Built(cell, SHAPE, 10, None) as built, torch.no_grad():
        assert torch.equal(built.network(images()), built.network(images()))


def test_the_paper_s_backend_gets_the_noise_of_the_cell() -> None:
    assert spec_of(Cell(backend="paper", precision=64, ep=0.5)) == "paper?precision=64&ep=0.5&noise=gaussian&match=ep"
    sign = Cell(backend="paper", quantiser="sign", ep=0.1, noise="uniform", match="variance")
    assert spec_of(sign) == "paper?quantiser=sign&ep=0.1&noise=uniform&match=variance"
    assert spec_of(Cell(backend="twin:typical")) == "twin:typical"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"network": "no_such"}, "no_such"),
        ({"network": "mlp", "n_conv": 2}, "takes no n_conv"),
        ({"network": "convnet", "depth": 2}, "depth"),
        ({"network": "convnet", "n_conv": 6}, "8 x 8"),
        ({"network": "convnet", "n_conv": 2, "activation": "geglu"}, "gated"),
        ({"backend": "no_such_backend", "n_conv": 2}, "no_such_backend"),
    ],
)
def test_what_cannot_be_built_is_named(fields: dict[str, object], named: str) -> None:
    with pytest.raises(SpecError, match=named), Built(Cell(**({"backend": "digital"} | fields)), SHAPE, 10, None):
        pass


def test_a_record_is_held_to_by_its_content(tmp_path: Path) -> None:
    record = tmp_path / "chip.json"
    cell = Cell(backend=f"twin:{record}?shots=2")
    with pytest.raises(SpecError, match="cannot be read"):
        record_files(cell)
    record.write_text("one")
    before = record_files(cell)
    record.write_text("two")
    assert list(record_files(cell)) == list(before) == [f"record {record}"]
    assert record_files(cell) != before
    assert record_files(Cell(backend="twin:typical")) == {}


TRANSFER = {"n_conv": 2, "n_linear": 1, "classes": (5, 6, 7, 8, 9), "pretrain_classes": (0, 1, 2, 3, 4)}


def test_transfer_keeps_all_but_the_last_layer() -> None:
    cell = Cell(backend="digital", **TRANSFER, pretrain_epochs=1)
    with Built(cell.pretraining, SHAPE, 5, None) as clean:
        for parameter in clean.network.parameters():
            nn.init.constant_(parameter, 0.5)
        start = clean.network.state_dict()
    with Built(cell, SHAPE, 5, start) as built:
        *kept, weight, bias = (parameter.detach() for parameter in built.network.parameters())
    assert all(bool((each == 0.5).all()) for each in kept)
    assert not bool((weight == 0.5).any())
    assert not bool((bias == 0.5).any())


def test_one_clean_network_serves_all_noise_levels_of_a_seed(tmp_path: Path) -> None:
    fields = {**TRANSFER, "pretrain_epochs": 2, "epochs": 1, "train_images": 100, "test_images": 50, "batch_size": 16}
    cells = [Cell(backend="digital", **fields), Cell(**fields, precision=64, ep=0.2)]
    assert len({cell.pretraining.hash for cell in cells}) == 1
    assert cells[0].pretraining.classes == (0, 1, 2, 3, 4)
    runner = Runner(Setting(tmp_path, None, torch.get_num_threads()))
    for cell in cells:
        reply = runner.attempt(cell)
        assert reply.outcome is not None, reply.error
        assert reply.outcome.n_classes == 5
    assert len(list((tmp_path / "pretrained").iterdir())) == 1


def test_chosen_classes_are_renumbered() -> None:
    samples = load_samples(Cell(backend="digital", classes=(7, 2), train_images=50, test_images=20), None)
    assert samples.n_classes == 2
    assert samples.train_y.unique().tolist() == [0, 1]
    assert len(samples.train_y) == 50
    assert samples.shape == SHAPE
