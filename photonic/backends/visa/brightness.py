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
        self._last: tuple[bytes, float, Codes] | None = None

    def codes(self, weights: Codes, gain: float) -> Codes:
        """(C, N) codes for tiles (R, C, P) at an analog gain."""
        words = weights.tobytes()
        if self._last is not None and self._last[0] == words and self._last[1] == gain:
            return self._last[2]
        found = self._chosen(weights, gain)
        self._last = words, gain, found
        return found

    def even(self) -> Codes:
        """(1, N) codes of light in all channels that fills the ADC with all weights at +1."""
        return self._of(np.full((1, self._spec.n_inputs), min(1.0, _PART * self._spec.adc_full_scale)))

    def full_weights(self) -> Codes:
        """(1, 1, P) codes of weights that let light through to every output; for a mesh, of whatever it gives."""
        spec = self._spec
        low, high = spec.weight_code_range
        if spec.layout == "program":
            codes = np.random.default_rng(0).uniform(low, high, spec.drives)
        else:
            codes = np.full(spec.drives, min(spec.response.weight_code_one, high))
        dtype = np.float64 if spec.code_dtype == torch.float64 else np.int16
        return (codes if spec.weight_bits is None else np.floor(codes)).astype(dtype)[None, None]

    def _chosen(self, weights: Codes, gain: float) -> Codes:
        spec = self._spec
        if spec.layout == "program":
            return np.repeat(self.even(), weights.shape[1], axis=0)
        rows, columns = weights.shape[:2]
        tiles = weights.astype(np.float64).reshape(rows, columns, spec.n_outputs, spec.n_inputs)
        scale = spec.response.weight_code_one * spec.n_inputs * spec.adc_full_scale / gain
        results = np.abs(tiles @ self._lit.T) / scale  # (R, C, M, patterns), parts of full scale at level 1
        most = results.max((0, 2))
        level = np.minimum(1.0, _PART / np.maximum(most, 1e-12))  # (C, patterns)
        best = ((results**2).sum((0, 2)) * level**2).argmax(1)
        return self._of(self._lit[best] * level[np.arange(columns), best][:, None])

    def _of(self, levels: Array) -> Codes:
        transfer = self._spec.response.inputs
        codes = modulator.codes(transfer, torch.from_numpy(levels)).numpy()
        low, high = self._spec.input_code_range
        codes = np.clip(codes if self._spec.input_bits is None else np.round(codes), low, high)
        return np.asarray(codes)
