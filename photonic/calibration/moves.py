"""What can have moved on a chip since its record was made, each as the change of mean counts that it would make.

| what | changes of D, up to factors |
| --- | --- |
| gain of all outputs, or of one | D |
| gain of all outputs from point to point | D of each point |
| zero of all outputs, or of one | a constant |
| an arm of an output's detector | S + D or S - D |
| light of an input | w_ij p_j T_j / N |
| bias of an input's modulator | w_ij p_j (dT / db)_j / N |
| curve of weights: all, of an output, of an input | sum over j of s^q p_j T_j / N, q = 0 .. 3 |
| one weight | p_j T_j / N and w_ij p_j T_j / N |
| faults that no record holds | as ``faults`` has them |

Of a mesh: gains, zeros, and amplitude and phase of each input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photonic.calibration.faults import EXPLAINED, NAMES, changes, in_order
from photonic.calibration.meshmodel import MeshModel, fields
from photonic.calibration.model import Array, ChipModel
from photonic.calibration.points import MeanModel, Points
from photonic.calibration.reading import Taken

POINTS = "verify"  # the purpose of the readings that are looked at
GAIN = "gain of all outputs"
_OF_SHOTS = ("memory of earlier shots", "slow receiver")
_DEGREE = 3  # of what a curve of weights over their codes moves by
_GONE = -0.9  # of the light or the gain: with less left, there is none
_HOLDS = 0.2  # a weight that follows its code by less does not follow it

# coefficients (Q,) and standard errors (Q,) to a name and a note
Told = Callable[[Array, Array], tuple[str, str]]


@dataclass(frozen=True)
class Family:
    """K changes of one kind, with Q coefficients each, of m outputs.

    Attributes:
        told: (K) what each is called, by its coefficients.
        design: (K, Q, P, m) change of mean counts by each coefficient.
        outputs: (K, m) which outputs those are.
    """

    told: Sequence[Told]
    design: Array
    outputs: NDArray[np.int64]


def of_elements(model: ChipModel, points: Points, taken: Sequence[Taken]) -> list[Family]:
    """Everything that is looked at on a chip with a code for each weight.

    Args:
        model: of the record.
        points: P of them.
        taken: all readings of the test in order; those for ``POINTS`` are the points.
    """
    light = model.inputs.levels(points.inputs) * model.power / points.spec.n_inputs
    s, w = model.drive(points.weights), model.weights(points.weights)
    found = [*of_outputs(model, points), _arms(model, points), _light(model, light, w)]
    if model.inputs.curved:
        found.append(_bias(model, points, w))
    found += [*_curves(model, light, s), _weights(model, light, w)]
    return [*found, _faults(model, taken)]


def of_mesh(model: MeshModel, points: Points) -> list[Family]:
    """Everything that is looked at on a mesh; arguments as ``of_elements``."""
    field, quadrature = fields(model.inputs, points.inputs)
    k = [model.program(codes) for codes in points.weights]
    in_phase, across = (np.moveaxis(each[k], 2, 0) for each in (model.matrix, model.quadrature))  # (N, P, M)
    along, beside = field.T[..., None], quadrature.T[..., None]
    amplitude, phase = along * in_phase + beside * across, beside * in_phase - along * across
    return [
        *of_outputs(model, points),
        every_output([relative(f"amplitude of input {j}") for j in range(len(amplitude))], amplitude[:, None]),
        every_output([_plain(f"phase of input {j}", "rad") for j in range(len(phase))], phase[:, None]),
    ]


def of_outputs(model: MeanModel, points: Points) -> list[Family]:
    """Gains and zeros."""
    d = points.results(model) * model.gain
    one = np.ones_like(d)
    apart = np.eye(len(d))[:, :, None] * d  # (P, P, M): each point has a gain of its own
    return [
        every_output([relative(GAIN)], d[None, None]),
        every_output([_wandering], apart[None]),
        every_output([_plain("zero of all outputs", "counts")], one[None, None]),
        each_output([relative(f"gain of output {i}") for i in range(d.shape[1])], d.T[:, None], d.shape[1]),
        each_output([_plain(f"zero of output {i}", "counts") for i in range(d.shape[1])], one.T[:, None], d.shape[1]),
    ]


def _arms(model: ChipModel, points: Points) -> Family:
    """Each of the two arms of each output, of a part that its detector no longer sees."""
    d, s = points.results(model) * model.gain, points.powers(model) * model.gain
    told = [relative(f"{arm} arm of output {i}") for arm in ("plus", "minus") for i in range(d.shape[1])]
    design = np.concatenate([(d + s).T, (d - s).T]) / 2
    return each_output(told, design[:, None], d.shape[1])


def _light(model: ChipModel, light: Array, w: Array) -> Family:
    told = [relative(f"light of input {j}") for j in range(light.shape[1])]
    return every_output(told, np.einsum("pj,pij,i->jpi", light, w, model.gain, optimize=True)[:, None])


def _bias(model: ChipModel, points: Points, w: Array) -> Family:
    """Of each modulator: T = T_min + (1 - T_min) sin^2, so dT / db = (1 - T_min) sin of twice the angle."""
    turned = (1 - model.inputs.level_min) * np.sin(2 * model.inputs.half_phase(points.inputs))
    moved = turned * model.power / points.spec.n_inputs
    told = [_plain(f"bias of input {j}", "rad of half phase") for j in range(moved.shape[1])]
    return every_output(told, np.einsum("pj,pij,i->jpi", moved, w, model.gain, optimize=True)[:, None])


def _curves(model: ChipModel, light: Array, s: Array) -> list[Family]:
    """Of all weights together, of each row, of each column: a polynomial of the nominal weight."""
    powers = [np.asarray(s**q * light[:, None] * model.gain[:, None]) for q in range(_DEGREE + 1)]  # (P, M, N) each
    rows = [each.sum(2) for each in powers]
    m, n = s.shape[1:]
    return [
        every_output([_named("curve of all weights", "all of them moved by their code, as by temperature")],
               np.stack(rows)[None]),
        each_output([_named(f"curve of the weights of output {i}", "moved by their code") for i in range(m)],
              np.stack([each.T for each in rows], axis=1), m),
        every_output([_named(f"curve of the weights of input {j}", "moved by their code, as by a wavelength")
                for j in range(n)], np.stack([np.moveaxis(each, 2, 0) for each in powers], axis=1)),
    ]  # fmt: skip


def _weights(model: ChipModel, light: Array, w: Array) -> Family:
    """Each weight: a constant, and a part of itself."""
    m, n = w.shape[1:]
    constant = np.broadcast_to(light[:, None] * model.gain[:, None], w.shape)
    both = np.stack([constant, constant * w])  # (2, P, M, N)
    design = both.transpose(2, 3, 0, 1).reshape(m * n, 2, len(light))[..., None]
    told = [_weight(i, j) for i in range(m) for j in range(n)]
    return Family(told, design, np.repeat(np.arange(m), n)[:, None])


def _faults(model: ChipModel, taken: Sequence[Taken]) -> Family:
    """Those that vectors show which are repeated: what a shot does to the next one is the same in all of them."""
    some = [k for k, name in enumerate(NAMES) if name not in _OF_SHOTS]
    points = [seen for seen in in_order(model, taken) if seen.taken.reading.purpose == POINTS]
    moved = np.stack([changes(model, seen)[2].mean(1) for seen in points], axis=1) * model.gain  # (K, P, M)
    return every_output([_named(NAMES[k], EXPLAINED[NAMES[k]]) for k in some], moved[some][:, None])


def every_output(told: Sequence[Told], design: Array) -> Family:
    """Changes of all outputs, from a design (K, Q, P, M)."""
    outputs = np.broadcast_to(np.arange(design.shape[-1]), (len(design), design.shape[-1]))
    return Family(told, design, outputs)


def each_output(told: Sequence[Told], design: Array, outputs: int) -> Family:
    """Changes of one output each, in order and over again, from a design (K, Q, P)."""
    return Family(told, design[..., None], (np.arange(len(design)) % outputs)[:, None])


def relative(name: str, of: float = 1.0, unit: str = "") -> Told:
    """A change in percent of ``of``; in ``unit`` where that is 0."""

    def told(size: Array, error: Array) -> tuple[str, str]:
        if of == 0:
            return name, f"{size[0]:+.3g} ± {1.96 * error[0]:.1g} {unit}"
        if size[0] / of < _GONE:
            return name, "none is left"
        return name, f"{100 * size[0] / of:+.3g} % ± {196 * error[0] / of:.1g} %"

    return told


def _wandering(size: Array, error: Array) -> tuple[str, str]:
    return "gain of all outputs, from point to point", f"rms {100 * np.sqrt(np.mean(size**2)):.2g} %: it drifts"


def _plain(name: str, unit: str) -> Told:
    return lambda size, error: (name, f"{size[0]:+.3g} ± {1.96 * error[0]:.1g} {unit}")


def _named(name: str, note: str) -> Told:
    return lambda size, error: (name, note)


def _weight(i: int, j: int) -> Told:
    def told(size: Array, error: Array) -> tuple[str, str]:
        name = f"weight of output {i}, input {j}"
        if abs(1 + size[1]) < _HOLDS:
            return name, f"stuck at {size[0]:+.2f} ± {1.96 * error[0]:.1g}"
        return name, f"moved by {size[0]:+.3g} and {100 * size[1]:+.2g} % of itself"

    return told
