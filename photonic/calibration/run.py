"""``photonic.calibrate``: sweep, fit, verify, record."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from torch import Tensor

from photonic.backends.chip import Chip
from photonic.calibration.checks import verify_counts
from photonic.calibration.diagnostics import allan_arrays, diagnostics
from photonic.calibration.driftnoise import beside_drift, over_repeats, predicted_points, shot_s
from photonic.calibration.fit import ChipFit, by_purpose
from photonic.calibration.layouts import layout_of
from photonic.calibration.meshfit import MeshFit
from photonic.calibration.meshnoise import brightest
from photonic.calibration.model import Array
from photonic.calibration.moved import moved
from photonic.calibration.plan import default_budget
from photonic.calibration.points import Points
from photonic.calibration.raw import RawStore
from photonic.calibration.rawheader import PLAN
from photonic.calibration.reading import Taken
from photonic.calibration.retest import retested
from photonic.calibration.sinetest import sine_test
from photonic.calibration.sweep import Progress, sweep
from photonic.calibration.timing import allan_check
from photonic.calibration.validity import valid_until
from photonic.errors import CalibrationError
from photonic.physics import seeds
from photonic.records import Calibration, ChipSpec, Provenance


def calibrate(
    chip: Chip,
    *,
    budget: int | None = None,
    seed: int = 0,
    matrices: Tensor | None = None,
    raw: str | Path | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Measures a chip, fits it, and verifies the fit on readings that it has not seen.

    What is fitted knows of the chip ``spec`` and what ``measure`` gives; an interrupted sweep also gives the chip its
    ``state()`` back.

    Args:
        chip: with a drive code for each weight, or a mesh, of which a few programs are measured.
        budget: shots; None: a million for 64 x 64, and at least 200,000.
        seed: of patterns and order.
        matrices: (K, M, N) that a mesh is programmed with besides random ones.
        raw: folder of the raw readings; one of an interrupted sweep is gone on with. None: a temporary one.
        progress: is told of every reading (done, in all, what).

    Returns:
        The record, its verdict in ``verification``.

    Raises:
        CalibrationError: the budget is too small, the chip failed or does not answer, or the folder is another chip's.
    """
    spec = chip.spec
    budget = default_budget(spec) if budget is None else budget
    generator = seeds.generator("calibration plan", seed)
    plan = layout_of(spec).plan(spec, budget, generator, matrices)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()) if raw is None else raw)
        begun = (folder / PLAN).exists()
        if begun:
            store = RawStore.open(folder)
        else:
            store = RawStore.create(folder, spec, plan, budget=budget, seed=seed, instruments=chip.instruments())
        stack.enter_context(store)
        sweep(chip, plan, store, progress=progress, lasting=raw is not None)
        return refit(store)


def refit(store: RawStore | str | Path) -> Calibration:
    """The record of raw readings, without the chip.

    Raises:
        CalibrationError: the sweep was not finished, or no model fits what it read, or as ``calibrate``.
    """
    store = store if isinstance(store, RawStore) else RawStore.open(Path(store))
    header = store.header
    if store.done < header.readings:
        raise CalibrationError(
            f"{store.folder} holds {store.done} of {header.readings} readings; finish the sweep first"
        )
    try:
        return _refitted(store)
    except (np.linalg.LinAlgError, ArithmeticError) as error:
        # readings that no model fits can end in equations without a solution
        raise CalibrationError(
            f"the readings in {store.folder} cannot be fitted: {type(error).__name__}: {error}; does every input and "
            "output of the chip answer, and is every symbol read where it is?"
        ) from error


def _refitted(store: RawStore) -> Calibration:
    header, layout, began = store.header, layout_of(store.spec), time.monotonic()
    taken = store.taken()
    fit = layout.fit(store.spec, taken)
    later = by_purpose(taken, 1)
    fit = replace(fit, noise=beside_drift(fit.noise, fit.drift))
    series, noise = later["allan"][0], fit.noise.model
    allan = allan_check(store.spec, series, fit.model, noise, fit.drift)
    prediction = predicted_points(store.spec, later["verify"], fit.model, noise, fit.drift)
    verification = verify_counts(prediction, allan, more=layout.statements(fit, taken))
    verification = layout.explained(verification, fit, taken)
    if verification.verdict != "pass" and not verification.suspects:
        # nothing that no record holds: perhaps the chip moved between what was fitted and what was held out
        found = moved(
            retested(store.spec, prediction, fit.model, noise, [item for item in taken if item.reading.block])
        )
        verification = verification.model_copy(update={"suspects": found})
    measured = sum(item.seconds for item in taken)
    provenance = Provenance(
        started=header.started,
        ended=datetime.fromtimestamp(taken[-1].utc, UTC),
        code_version=header.code_version,
        raw_sha256=store.sha256,
        budget=header.budget,
        shots=sum(len(item.counts) for item in taken),
        seconds=measured + time.monotonic() - began,
        seed=header.seed,
        instruments=header.instruments,
        conditions=dict(next(item for item in taken if item.reading.purpose == "matrix").reading.conditions),
        telemetry_start=dict(taken[0].telemetry),
        telemetry_end=dict(taken[-1].telemetry),
    )
    shown = {
        **_shown(store.spec, "noise", brightest(by_purpose(taken)["noise"]), fit),
        **_shown(store.spec, "check", later["verify"], fit),
        **allan_arrays(store.spec, series, allan),
    }
    record = layout.record(store.spec, fit, verification, provenance, shown)
    sine = sine_test(store.spec, taken)
    record = record.replaced(parameters=(*record.parameters, *sine.parameters), arrays={**record.arrays, **sine.arrays})
    until = valid_until(fit.drift, prediction, fit.model.zero, taken)
    return record if until is None else record.replaced(valid_until=until)


def _shown(spec: ChipSpec, name: str, taken: Sequence[Taken], fit: ChipFit | MeshFit) -> Mapping[str, Array]:
    """Points for the report, variances over all their repeats."""
    points = Points.of(spec, taken)
    noise = over_repeats(fit.noise.model, fit.drift, points.counts.shape[1], shot_s(spec, taken))
    return diagnostics(name, points, fit.model, noise)
