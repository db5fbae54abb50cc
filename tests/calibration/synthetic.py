"""A calibration made up by hand: everything that a record can hold, at sizes that show."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from photonic.records import Calibration, ChipSpec, InputTransfer, NoiseModel, Response

M, N = 16, 16
NOISE = NoiseModel(thermal=1.5e-6, shot=2e-6, rin=4e-4, common_mode=2e-6, converter=2e-6)
QUIET = NoiseModel()


def spec_of(**fields: Any) -> ChipSpec:
    """The data sheet of the chip that was measured."""
    given: dict[str, Any] = {
        "chip_id": "lab:chip7",
        "n_outputs": M,
        "n_inputs": N,
        "partial_tiles": True,
        "shot_time_s": 2e-9,
        "settle_time_s": 1e-5,
        "conditions": {"laser_power": (0.0, 0.5, 1.0), "analog_gain": (1.0, 4.0), "electrical_input": ("off", "sine")},
        "tile_conditions": ("analog_gain",),
        "response": Response(inputs=InputTransfer(shape="mzm", extinction_ratio_db=25.0), counts_per_d=(512.0,)),
    }
    return ChipSpec(**{**given, **fields})


def arrays_of(spec: ChipSpec, *, inl: bool = False, own_noise: bool = False, seed: int = 0) -> dict[str, np.ndarray]:
    """Spreads of everything, a bent programming curve, and four neighbours."""
    g, m, n = np.random.default_rng(seed), spec.n_outputs, spec.n_inputs
    low, high = spec.weight_code_range
    line = np.linspace(low, high, 9) / spec.response.weight_code_one
    element = np.stack(
        [0.03 * g.normal(size=(m, n)), 1 + 0.04 * g.normal(size=(m, n)), 0.05 * g.normal(size=(m, n))], axis=-1
    )
    power = np.exp(0.06 * g.normal(size=n))
    gain = np.exp(0.05 * g.normal(size=m))
    gain[0] = 1.15  # so that the first output stands for no other
    found = {
        "counts_per_d": abs(spec.response.counts_per_d[0]) * gain,
        "zero_count": 2.0 * g.normal(size=m),
        "inverse_v_pi": np.exp(0.01 * g.normal(size=n)),
        "bias_rad": 0.02 * g.normal(size=n),
        "power": power / power.mean(),
        "level_min": np.array([0.004]),
        "curves": np.stack([np.ones(9), line + 0.04 * np.sin(3 * line + 0.5), line**2 - 0.4]),
        "element": element,
        "neighbour_offsets": np.array([[0, -1], [0, 1], [1, 0], [-2, 0]], dtype=float),
        "neighbour": np.array([[0.03, 0.01], [0.02, 0.0], [-0.02, 0.005], [0.01, 0.01]]),
        "neighbour_target": np.array([1.0]),
        "power_law": np.array([0.6, 0.4]),
    }
    if inl:
        codes = np.arange(1, 256) - 128.5
        bend = (0.6 + 0.3 * g.normal(size=(m, 1))) * (codes / 128) ** 2 + 0.2 * np.sin(codes / 7)
        found["transitions"] = codes + bend
    if own_noise:
        factors = np.exp(0.4 * g.normal(size=(2, m)))
        found["own_noise"] = factors / factors.mean(1, keepdims=True)
    return found


def calibration_of(
    spec: ChipSpec | None = None,
    arrays: dict[str, np.ndarray] | None = None,
    *,
    noise: NoiseModel = NOISE,
    inl: bool = False,
    own_noise: bool = False,
    **fields: Any,
) -> Calibration:
    """A measured record of such a chip."""
    spec = spec or spec_of()
    arrays = arrays_of(spec, inl=inl, own_noise=own_noise) if arrays is None else arrays
    inputs = spec.response.inputs
    response = Response(
        inputs=inputs.model_copy(update={"extinction_ratio_db": 23.98} if inputs.shape == "mzm" else {}),
        weight_code_one=spec.response.weight_code_one,
        counts_per_d=tuple(arrays["counts_per_d"].tolist()),
        zero_count=tuple(arrays["zero_count"].tolist()),
        noise=noise,
    )
    return Calibration(chip_id=spec.chip_id, nominal=False, response=response, spec=spec, arrays=arrays, **fields)


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
