"""What the concrete half of a chip does: it pads, counts, remembers what is programmed, and refuses broken counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from photonic.backends.chip import Chip, Conditions, Measurement, ResidentTiles
from photonic.errors import ChipError, RecordError, ShapeError
from photonic.records import ChipSpec, NoiseModel, Response

RESPONSE = Response(counts_per_d=(512.0,))


class EchoChip(Chip):
    """Whole tiles of 3 x 4; the count of an output is its number of +1 codes, and the last call is kept."""

    def __init__(self, answer: Callable[[Tensor], Tensor] | None = None, **fields: object) -> None:
        settings = {"chip_id": "echo", "n_outputs": 3, "n_inputs": 4, "response": RESPONSE, "dark_code": 9.0} | fields
        super().__init__(ChipSpec(**settings))
        self.answer = answer
        self.seen: tuple[Tensor, Tensor] | None = None
        self.safe = 0

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor | Measurement:
        self.seen = weights, inputs
        rows, columns, _ = weights.shape
        ones = (weights.reshape(rows, columns, 1, 3, 4) == 1).sum(-1).to(torch.int16)
        counts = ones.expand(rows, columns, inputs.shape[1], 3).contiguous()
        return counts if self.answer is None else self.answer(counts)

    def safe_state(self) -> None:
        self.safe += 1


def _codes(*shape: int, fill: int = 0) -> Tensor:
    return torch.full(shape, fill, dtype=torch.int16)


def test_partial_tiles_are_filled_up_for_a_chip_that_wants_whole_ones() -> None:
    """Unused inputs get the dark code, unused weights the code of zero, and unused outputs are not returned."""
    chip = EchoChip()
    measured = chip.measure(_codes(2, 5, 2 * 3, fill=1), _codes(5, 7, 3, fill=4))
    assert measured.counts.shape == (2, 5, 7, 2)
    assert measured.counts.unique().tolist() == [3]
    assert chip.seen is not None
    weights, inputs = chip.seen
    assert weights[0, 0].reshape(3, 4).tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert inputs[0, 0].tolist() == [4, 4, 4, 9]


def test_what_a_call_spent_is_counted() -> None:
    """One call, R C B shots, every tile that differs from the resident one programmed."""
    chip = EchoChip()
    usage = chip.measure(_codes(2, 5, 12), _codes(5, 7, 4)).usage
    assert (usage.calls, usage.shots, usage.tiles_programmed, usage.counts) == (1, 70, 1, 210)
    chip.measure(_codes(2, 5, 12), _codes(5, 7, 4))
    assert (chip.usage.calls, chip.usage.shots, chip.usage.tiles_programmed) == (2, 140, 1)


@pytest.mark.parametrize(("capacity", "expected"), [(1, [4, 4, 4]), (2, [3, 2, 2]), (3, [3, 0, 0]), (9, [3, 0, 0])])
def test_resident_tiles_are_programmed_once(capacity: int, expected: list[int]) -> None:
    """Tiles a b a c again and again: least recently used goes first, and codes alone decide."""
    a, b, c = (_codes(6, fill=value) for value in (1, 2, 3))
    held = ResidentTiles(capacity)
    visits = [held.program(torch.stack([a, b, a, c]).clone(), 3) for _ in range(3)]
    assert visits == expected


def test_equal_tiles_in_a_row_are_programmed_once() -> None:
    """A chip with one resident tile does not write what it holds; a change of a single code it does."""
    held, tiles = ResidentTiles(1), _codes(4, 6, fill=5)
    assert held.program(tiles, 3) == 1
    assert held.program(tiles, 3) == 0
    tiles[2, 3] = 6
    assert held.program(tiles, 3) == 2
    held.forget()
    assert held.program(tiles[:1], 3) == 1


def test_the_same_codes_in_another_shape_are_another_tile() -> None:
    """2 x 3 and 3 x 2 weights of the same codes are not the same programming."""
    held = ResidentTiles(1)
    assert held.program(_codes(1, 6, fill=5), 3) == 1
    assert held.program(_codes(1, 6, fill=5), 2) == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda counts: counts[..., :2], "expected counts"),
        (lambda counts: counts.float(), "torch.float32"),
        (lambda counts: counts + 200, r"leave the range \[-128, 127\]"),
        (lambda counts: counts[:, :, :-1], "nothing was padded"),
        (lambda counts: counts.numpy(), "found no tensor but ndarray"),
        (lambda counts: None, "found no tensor but NoneType"),
    ],
)
def test_counts_that_the_spec_rules_out_are_refused(answer: Callable[[Tensor], Any], message: str) -> None:
    """A chip that breaks its contract raises; nothing is padded, cut or cast, and the outputs are made safe."""
    chip = EchoChip(answer)
    with pytest.raises(ChipError, match=message):
        chip.measure(_codes(1, 1, 12), _codes(1, 3, 4))
    assert chip.safe == 1


def test_after_a_failed_call_every_tile_is_programmed_again() -> None:
    """Nothing is known of what the chip holds."""
    chip = EchoChip()
    chip.measure(_codes(1, 1, 12), _codes(1, 3, 4))
    chip.answer = lambda counts: counts.float()
    with pytest.raises(ChipError):
        chip.measure(_codes(1, 1, 12), _codes(1, 3, 4))
    chip.answer = None
    assert chip.measure(_codes(1, 1, 12), _codes(1, 3, 4)).usage.tiles_programmed == 1


@pytest.mark.parametrize(
    ("weights", "inputs"),
    [
        ((12,), (1, 3, 4)),
        ((1, 2, 12), (1, 3, 4)),
        ((1, 1, 12), (1, 3, 5)),
        ((1, 1, 13), (1, 3, 4)),
        ((1, 1, 16), (1, 3, 4)),
    ],
)
def test_shapes_that_do_not_fit_the_chip_are_refused(weights: tuple[int, ...], inputs: tuple[int, ...]) -> None:
    """Before anything is sent."""
    chip = EchoChip()
    with pytest.raises(ShapeError):
        chip.measure(_codes(*weights), _codes(*inputs))
    assert chip.seen is None


def test_codes_of_another_dtype_are_refused() -> None:
    """float codes to a chip with converters would be rounded silently."""
    with pytest.raises(ShapeError, match=r"CPU codes of torch\.int16"):
        EchoChip().measure(torch.zeros(1, 1, 12), _codes(1, 3, 4))


def test_a_programmed_chip_takes_whole_programs_only() -> None:
    """layout "program": P codes that mean nothing element by element."""
    spec = ChipSpec(chip_id="mesh", n_outputs=3, n_inputs=4, layout="program", n_drives=12, response=RESPONSE)
    chip = EchoChip()
    chip.spec = spec
    assert chip.measure(_codes(1, 1, 12), _codes(1, 5, 2)).counts.shape == (1, 1, 5, 3)
    with pytest.raises(ShapeError, match="12 drive codes"):
        chip.measure(_codes(1, 1, 6), _codes(1, 5, 2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_outputs": 0}, "n_outputs"),
        ({"input_code_range": (0.0, 300.0)}, "more than the 256 values"),
        ({"count_range": (5.0, 5.0)}, "must rise"),
        ({"dark_code": -1.0}, "dark_code -1.0 is outside"),
        ({"layout": "program"}, "n_drives is needed"),
        ({"response": Response(counts_per_d=(1.0, 2.0))}, "needs 1 or 3 values, found 2"),
        ({"n_output": 3}, "n_output: Extra inputs are not permitted"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_by_field(fields: dict[str, object], message: str) -> None:
    """One line of the project's tree, not pydantic's."""
    with pytest.raises(RecordError, match=message) as caught:
        EchoChip(**fields)
    assert "\n" not in str(caught.value)


def test_enob_is_the_design_s_definition() -> None:
    """A chip without noise and with b bits has b effective bits; without converter none are stated."""
    assert EchoChip(adc_full_scale=0.25).spec.enob == pytest.approx(8.0)
    noisy = Response(counts_per_d=(512.0,), noise=NoiseModel(thermal=(0.5 / 512) ** 2))
    assert EchoChip(response=noisy).spec.enob == pytest.approx(7.0)
    free = {"weight_bits": None, "input_bits": None, "adc_bits": None}
    assert EchoChip(**free).spec.enob is None
