"""How bright the sync symbols are: as bright as the converter takes, in the channels that show most of the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from photonic.physics import modulator
from photonic.records import ChipSpec

Array = NDArray[np.float64]
Codes = NDArray[Any]
_PART = 0.7  # of the ADC's full scale


class Brightness:
    """Chooses the codes of bright sync symbols by the data sheet; only their visibility depends on it.

    Weights may add up to zero in every row, so that light in all channels shows nothing: of some patterns of lit
    channels the one with the largest results is taken.

    Args:
        spec: of the chip.
    """

    def __init__(self, spec: ChipSpec) -> None:
        self._spec = spec
        n = np.arange(spec.n_inputs)
        lit = [np.ones_like(n), n % 2 == 0, n < (spec.n_inputs + 1) // 2, n % 4 < 2, n % 3 == 0, (n // 3) % 2 == 0]
        self._lit = np.stack([pattern.astype(np.float64) for pattern in lit])
        self._counts = np.broadcast_to(spec.response.counts_per_d, (spec.n_outputs,)).astype(np.float64)
        self._last: tuple[bytes, float, Codes, Array | None] | None = None

    def codes(self, weights: Codes, gain: float) -> tuple[Codes, Array | None]:
        """(C, N) codes for tiles (R, C, P) at an analog gain; (M, R x C) contrasts in counts that they must give.

        The data sheet promises no contrasts of a mesh.
        """
        words = weights.tobytes()
        if self._last is None or self._last[0] != words or self._last[1] != gain:
            self._last = words, gain, *self._chosen(weights, gain)
        return self._last[2], self._last[3]

    def reference(self) -> Array | None:
        """(M,) contrasts of ``even`` light with ``full_weights`` in counts; None for a mesh."""
        spec = self._spec
        if spec.layout == "program":
            return None
        weight = float(self.full_weights().flat[0]) / spec.response.weight_code_one
        return np.asarray(weight * min(1.0, _PART * spec.adc_full_scale) * self._counts)

    def swing(self, weights: Codes, inputs: Codes, gain: float) -> Array:
        """(M,) most counts by which data and sync symbols must move each output; 0 for a mesh."""
        spec = self._spec
        if spec.layout == "program" or not inputs.size:
            return np.zeros(spec.n_outputs)
        _, promised = self.codes(weights, gain)
        levels = modulator.levels(spec.response.inputs, torch.from_numpy(inputs.astype(np.float64))).numpy()
        low = modulator.levels(spec.response.inputs, torch.tensor([spec.dark_code], dtype=torch.float64)).item()
        tiles = self._tiles(weights)
        results = np.einsum("rcmn,cbn->mrcb", tiles, levels - low).reshape(spec.n_outputs, -1)
        data = np.abs(results).max(1) * np.abs(self._counts) * gain / spec.n_inputs
        return np.asarray(np.maximum(data, 0.0 if promised is None else np.abs(promised).max(1)))

    def _tiles(self, weights: Codes) -> Array:
        """(R, C, M, N) nominal weights."""
        spec, (rows, columns) = self._spec, weights.shape[:2]
        tiles = weights.astype(np.float64).reshape(rows, columns, spec.n_outputs, spec.n_inputs)
        return np.asarray(tiles / spec.response.weight_code_one)

    def even(self) -> Codes:
        """(1, N) codes of light in all channels that fills the ADC with all weights at +1."""
        return self._of(np.full((1, self._spec.n_inputs), min(1.0, _PART * self._spec.adc_full_scale)))

    def full_weights(self, setting: int = 0) -> Codes:
        """(1, 1, P) codes of weights that let light through to every output; for a mesh, of whatever it gives.

        Args:
            setting: of a mesh, another one for each number.
        """
        spec = self._spec
        low, high = spec.weight_code_range
        if spec.layout == "program":
            codes = np.random.default_rng(setting).uniform(low, high, spec.drives)
        else:
            codes = np.full(spec.drives, min(spec.response.weight_code_one, high))
        dtype = np.float64 if spec.code_dtype == torch.float64 else np.int16
        return (codes if spec.weight_bits is None else np.floor(codes)).astype(dtype)[None, None]

    def _chosen(self, weights: Codes, gain: float) -> tuple[Codes, Array | None]:
        spec = self._spec
        if spec.layout == "program":
            return np.repeat(self.even(), weights.shape[1], axis=0), None
        columns = np.arange(weights.shape[1])
        # (R, C, M, patterns), parts of full scale at level 1
        results = self._tiles(weights) @ self._lit.T * (gain / (spec.n_inputs * spec.adc_full_scale))
        most = np.abs(results).max((0, 2))
        level = np.minimum(1.0, _PART / np.maximum(most, 1e-12))  # (C, patterns)
        best = ((results**2).sum((0, 2)) * level**2).argmax(1)
        chosen = level[columns, best]
        found = results[:, columns, :, best] * (chosen * spec.adc_full_scale)[:, None, None]  # (C, R, M) in D
        promised = found.transpose(2, 1, 0).reshape(spec.n_outputs, -1) * self._counts[:, None]
        return self._of(self._lit[best] * chosen[:, None]), promised

    def _of(self, levels: Array) -> Codes:
        transfer = self._spec.response.inputs
        codes = modulator.codes(transfer, torch.from_numpy(levels)).numpy()
        low, high = self._spec.input_code_range
        codes = np.clip(codes if self._spec.input_bits is None else np.round(codes), low, high)
        return np.asarray(codes)
