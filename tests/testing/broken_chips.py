"""One small chip for each rule of the chip suite, which breaks that rule and no other."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import torch
from torch import Tensor

from photonic.backends.chip import Chip, Conditions, Measurement
from photonic.records import ChipSpec, InputTransfer, NoiseModel, Response

M, N = 6, 8
SIGMA = 0.002
RESPONSE = Response(inputs=InputTransfer(code_one=255), counts_per_d=(512.0,), noise=NoiseModel(thermal=SIGMA**2))


class GoodChip(Chip):
    """Linear, 6 x 8, with independent noise: keeps every rule."""

    def __init__(self, *, seed: int = 0, device: int = 0) -> None:
        super().__init__(ChipSpec(chip_id="small", n_outputs=M, n_inputs=N, seeded=True, response=RESPONSE))
        self.generator = torch.Generator().manual_seed(seed)

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor | Measurement:
        return self._counts(self._result(self._tiles(weights), inputs / 255))

    def _tiles(self, weights: Tensor) -> Tensor:
        return weights.float().unflatten(-1, (M, N)) / 127

    def _result(self, tiles: Tensor, light: Tensor) -> Tensor:
        return torch.einsum("rcmn,cbn->rcbm", tiles, light) / N

    def _noise(self, d: Tensor) -> Tensor:
        return SIGMA * torch.randn(d.shape, generator=self.generator)

    def _counts(self, d: Tensor) -> Tensor:
        return (512 * (d + self._noise(d))).round().clamp(-128, 127).short()


class WrongDtype(GoodChip):
    """Gives floats where the spec says int16."""

    def measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions | None = None) -> Measurement:
        return Measurement(super().measure(weights, inputs, conditions).counts.float())


class CrashesOnEmpty(GoodChip):
    """Raises an error of its own for an empty batch."""

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor | Measurement:
        if inputs.shape[1]:
            return super()._measure(weights, inputs, conditions)
        raise IndexError("empty")


class IgnoresStrides(GoodChip):
    """Reads the memory of its inputs in order, whatever their strides are."""

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor | Measurement:
        if inputs.stride(-1) != 1:
            inputs = torch.as_strided(inputs, inputs.shape, (inputs.shape[1] * N, N, 1))
        return super()._measure(weights, inputs, conditions)


class WritesIntoCodes(GoodChip):
    """Uses the caller's codes as a scratch pad."""

    def measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions | None = None) -> Measurement:
        measured = super().measure(weights, inputs, conditions)
        if inputs.stride(-1) != 1:  # elsewhere the next question would be another one
            inputs.zero_()
        return measured


class FirstRowOnly(GoodChip):
    """Never programs the second row of tiles."""

    def _tiles(self, weights: Tensor) -> Tensor:
        return super()._tiles(weights)[:1].expand(len(weights), -1, -1, -1)


class Unsigned(GoodChip):
    """Loses the sign of its weights."""

    def _tiles(self, weights: Tensor) -> Tensor:
        return super()._tiles(weights).abs()


class Compressing(GoodChip):
    """Saturates softly, evenly for both signs: 40 % off at the top."""

    def _result(self, tiles: Tensor, light: Tensor) -> Tensor:
        return 0.1 * torch.tanh(super()._result(tiles, light) / 0.1)


class Reversed(GoodChip):
    """Wires its inputs in reverse order."""

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor | Measurement:
        return super()._measure(weights, inputs.flip(-1), conditions)


class ColumnMajor(GoodChip):
    """Reads its drive codes column by column."""

    def _tiles(self, weights: Tensor) -> Tensor:
        return weights.float().unflatten(-1, (N, M)).mT / 127


class FirstChannelOnly(GoodChip):
    """Gives every channel the light of the first."""

    def _measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions) -> Tensor | Measurement:
        return super()._measure(weights, inputs[..., :1].expand(inputs.shape), conditions)


class SwapsOutputs(GoodChip):
    """Gives the outputs in reverse order."""

    def _result(self, tiles: Tensor, light: Tensor) -> Tensor:
        return super()._result(tiles, light).flip(-1)


class OneNoiseForAllTiles(GoodChip):
    """Draws one shot's noise for the whole grid."""

    def _noise(self, d: Tensor) -> Tensor:
        return super()._noise(d[:1, :1]).expand(d.shape)


class PairedNoise(GoodChip):
    """Draws noise once for 2 shots."""

    def _noise(self, d: Tensor) -> Tensor:
        return super()._noise(d[:, :, ::2]).repeat_interleave(2, dim=2)[:, :, : d.shape[2]]


class SlowNoise(GoodChip):
    """Draws noise once for 4 shots."""

    def _noise(self, d: Tensor) -> Tensor:
        slow = torch.randn(*d.shape[:2], d.shape[2] // 4 + 1, M, generator=self.generator)
        return SIGMA * slow.repeat_interleave(4, dim=2)[:, :, : d.shape[2]] + 0.05 * super()._noise(d)


class SeedBlind(GoodChip):
    """Ignores the run's seed."""

    def __init__(self, *, seed: int = 0, device: int = 0) -> None:
        super().__init__(seed=0)


class RepeatsItself(GoodChip):
    """Draws the same noise in every call."""

    def _noise(self, d: Tensor) -> Tensor:
        self.generator.manual_seed(self.generator.initial_seed())
        return super()._noise(d)


class GlobalNoise(GoodChip):
    """Seeds torch's global generator and draws from it."""

    def __init__(self, *, seed: int = 0, device: int = 0) -> None:
        super().__init__(seed=seed)
        torch.manual_seed(seed)

    def _noise(self, d: Tensor) -> Tensor:
        return SIGMA * torch.randn(d.shape)


class _Spread(GoodChip):
    def _draw(self, seed: int) -> None:
        self.gain = 1 + 0.02 * torch.randn(M, generator=torch.Generator().manual_seed(seed))

    def _result(self, tiles: Tensor, light: Tensor) -> Tensor:
        return self.gain * super()._result(tiles, light)


class SpreadOfTheRun(_Spread):
    """Is another device in every run."""

    def __init__(self, *, seed: int = 0, device: int = 0) -> None:
        super().__init__(seed=seed)
        self._draw(seed)


class SharedId(_Spread):
    """All devices have one id, though they differ."""

    def __init__(self, *, seed: int = 0, device: int = 0) -> None:
        super().__init__(seed=seed)
        self._draw(device)


class MeasuresFirst(GoodChip):
    """Refuses what it has already measured."""

    def measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions | None = None) -> Measurement:
        if conditions:
            self._measure(weights, inputs, conditions)
        return super().measure(weights, inputs, conditions)


class Clipping(GoodChip):
    """Clips codes that are out of range instead of refusing them."""

    def measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions | None = None) -> Measurement:
        return super().measure(weights.clamp(-127, 127), inputs.clamp(0, 255), conditions)


class Undead(GoodChip):
    """Measures after it was closed."""

    def measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions | None = None) -> Measurement:
        self._closed = False
        return super().measure(weights, inputs, conditions)


class Unlocked(GoodChip):
    """Keeps the question of the last caller, whoever asks."""

    def measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions | None = None) -> Measurement:
        self._question = weights
        time.sleep(0.002)
        return super().measure(self._question, inputs, conditions)


class NoLock(GoodChip):
    """Lets all callers in at once."""

    def measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions | None = None) -> Measurement:
        self._lock = threading.RLock()
        return super().measure(weights, inputs, conditions)


class NeverSafe(GoodChip):
    """Leaves its outputs on when a measurement is interrupted."""

    def measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions | None = None) -> Measurement:
        hook, self.safe_state = self.safe_state, lambda: None  # type: ignore[method-assign]
        try:
            return super().measure(weights, inputs, conditions)
        finally:
            self.safe_state = hook  # type: ignore[method-assign]


class HoldsItsLock(GoodChip):
    """Does not release its lock when a measurement ends in Ctrl-C."""

    def measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions | None = None) -> Measurement:
        try:
            return super().measure(weights, inputs, conditions)
        except KeyboardInterrupt:
            self._lock.acquire()
            raise


class SwallowsInterrupts(GoodChip):
    """Ctrl-C inside a measurement is taken for an empty answer."""

    def measure(self, weights: Tensor, inputs: Tensor, conditions: Conditions | None = None) -> Measurement:
        with contextlib.suppress(KeyboardInterrupt):
            return super().measure(weights, inputs, conditions)
        return Measurement(torch.zeros(0, dtype=torch.int16))


BROKEN: list[tuple[Callable[..., Chip], str]] = [
    (WrongDtype, "shapes"),
    (CrashesOnEmpty, "shapes"),
    (IgnoresStrides, "layouts"),
    (WritesIntoCodes, "layouts"),
    (FirstRowOnly, "tiling"),
    (Unsigned, "sign"),
    (Compressing, "linearity"),
    (Reversed, "channels"),
    (ColumnMajor, "channels"),
    (FirstChannelOnly, "channels"),
    (SwapsOutputs, "channels"),
    (SlowNoise, "averaging"),
    (PairedNoise, "averaging"),
    (OneNoiseForAllTiles, "independence"),
    (SeedBlind, "seeding"),
    (RepeatsItself, "seeding"),
    (GlobalNoise, "seeding"),
    (SpreadOfTheRun, "seeding"),
    (SharedId, "seeding"),
    (Clipping, "refusal"),
    (MeasuresFirst, "refusal"),
    (Undead, "close"),
    (Unlocked, "threads"),
    (NoLock, "threads"),
    (HoldsItsLock, "interrupt"),
    (SwallowsInterrupts, "interrupt"),
    (NeverSafe, "interrupt"),
]
