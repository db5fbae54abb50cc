"""What a calibration does otherwise for a chip with a code for each weight, and for a mesh.

All else is the same for both: the sweep, the order of the steps, the checks, and what moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from photonic.calibration.equivalence import Statements
from photonic.calibration.fit import ChipFit, fit_readings
from photonic.calibration.meshfit import MeshFit, fit_mesh
from photonic.calibration.meshmodel import MeshModel
from photonic.calibration.meshplan import make_mesh_plan, make_mesh_retest
from photonic.calibration.meshrecord import make_mesh_record
from photonic.calibration.model import Array, ChipModel
from photonic.calibration.moves import Family, of_elements, of_mesh
from photonic.calibration.plan import least_retest, make_plan, make_retest
from photonic.calibration.points import Points
from photonic.calibration.reading import Reading, Taken
from photonic.calibration.record import make_record
from photonic.calibration.suspects import explained, statements
from photonic.errors import CalibrationError
from photonic.records import Calibration, ChipSpec, Provenance, Verification

RETEST_SHOTS = 40_000

Fit = TypeVar("Fit")
Model = TypeVar("Model")


@dataclass(frozen=True)
class Layout(Generic[Fit, Model]):
    """The parts of a calibration that hang on how a chip is programmed.

    Attributes:
        plan: readings of a calibration, from budget, generator and the matrices that a mesh is to be programmed with.
        fit: response and noise from the readings that are not held out.
        statements: what is tested besides the held-out points.
        explained: the verdict, with what no record holds named where readings show it.
        record: everything written down.
        model: what predicts counts of the chip that a record was measured on.
        retest_shots: of a later test unless something else is asked for.
        retest: its readings.
        families: what may have moved at the points of a test, of which all readings are given, too.
    """

    plan: Callable[[ChipSpec, int, torch.Generator, Tensor | None], Sequence[Reading]]
    fit: Callable[[ChipSpec, Sequence[Taken]], Fit]
    statements: Callable[[Fit, Sequence[Taken]], Sequence[Statements]]
    explained: Callable[[Verification, Fit, Sequence[Taken]], Verification]
    record: Callable[[ChipSpec, Fit, Verification, Provenance, Mapping[str, Array]], Calibration]
    model: Callable[[Calibration, ChipSpec], Model]
    retest_shots: Callable[[ChipSpec], int]
    retest: Callable[[ChipSpec, int, torch.Generator, Model], Sequence[Reading]]
    families: Callable[[Model, Points, Sequence[Taken]], Sequence[Family]]


def _plan(spec: ChipSpec, budget: int, generator: torch.Generator, matrices: Tensor | None) -> Sequence[Reading]:
    if matrices is not None:
        raise CalibrationError(f"matrices are for a mesh; chip {spec.chip_id} has a code for each weight")
    return make_plan(spec, budget, generator)


ELEMENTWISE = Layout[ChipFit, ChipModel](
    plan=_plan,
    fit=fit_readings,
    statements=statements,
    explained=explained,
    record=make_record,
    model=ChipModel.of,
    retest_shots=lambda spec: max(RETEST_SHOTS, least_retest(spec)),
    retest=lambda spec, budget, generator, _: make_retest(spec, budget, generator),
    families=of_elements,
)
PROGRAMS = Layout[MeshFit, MeshModel](
    plan=make_mesh_plan,
    fit=fit_mesh,
    statements=lambda *_: (),
    explained=lambda verification, *_: verification,
    record=make_mesh_record,
    model=MeshModel.of,
    retest_shots=lambda _: RETEST_SHOTS,
    retest=lambda spec, budget, generator, model: make_mesh_retest(spec, budget, generator, model.programs),
    families=lambda model, points, _: of_mesh(model, points),
)


def layout_of(spec: ChipSpec) -> Layout[Any, Any]:
    """Which of them a chip has."""
    return PROGRAMS if spec.layout == "program" else ELEMENTWISE
