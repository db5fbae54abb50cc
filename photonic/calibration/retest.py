"""``photonic.verify``: does a chip still match its record?"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from photonic.backends.chip import Chip
from photonic.calibration.checks import verify_counts
from photonic.calibration.driftnoise import predicted_points
from photonic.calibration.fit import by_purpose
from photonic.calibration.layouts import layout_of
from photonic.calibration.moved import Retested, moved
from photonic.calibration.moves import POINTS
from photonic.calibration.points import MeanModel, Points
from photonic.calibration.predicted import Prediction
from photonic.calibration.raw import RawStore
from photonic.calibration.reading import Taken
from photonic.calibration.sweep import Progress, sweep
from photonic.calibration.timing import allan_check
from photonic.errors import ArraysError, WrongChipError
from photonic.physics import seeds
from photonic.records import Calibration, ChipSpec, NoiseModel, Verification


def verify(
    chip: Chip,
    calibration: Calibration,
    *,
    budget: int | None = None,
    seed: int = 0,
    raw: str | Path | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Measures points that the calibration did not, and compares counts with what the record predicts.

    Args:
        chip: the one that the record belongs to.
        calibration: measured.
        budget: shots; a small one leaves statements undecided. None: 40,000, or what chips of few outputs take.
        seed: of the patterns.
        raw: folder of the raw readings; None: a temporary one.
        progress: is told of every reading.

    Returns:
        The verdict, and per check what was found; ``causes`` says what kind of thing moved, ``suspects`` which one (see
        ``moves``).

    Raises:
        WrongChipError: the record is another chip's.
        ArraysError: nothing was measured: a nominal record cannot be tested.
        CalibrationError: as ``calibrate``.
    """
    if calibration.chip_id != chip.spec.chip_id:
        raise WrongChipError(
            f"this calibration belongs to {calibration.chip_id}, the chip is {chip.spec.chip_id}; calibrate it"
        )
    if calibration.spec is None or not calibration.arrays:
        raise ArraysError(f"the record of {calibration.chip_id} is nominal: nothing was measured; calibrate the chip")
    _check_geometry(calibration.spec, chip.spec)
    layout = layout_of(calibration.spec)
    generator, model = seeds.generator("verification plan", seed), layout.model(calibration, calibration.spec)
    budget = layout.retest_shots(chip.spec) if budget is None else budget
    plan = layout.retest(chip.spec, budget, generator, model)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()) if raw is None else raw)
        store = RawStore.create(folder, chip.spec, plan, budget=budget, seed=seed)
        stack.enter_context(store)
        sweep(chip, plan, store, progress=progress, lasting=raw is not None)
        taken = store.taken()
    return _verified(chip.spec, taken, model, calibration)


def _verified(spec: ChipSpec, taken: Sequence[Taken], model: MeanModel, calibration: Calibration) -> Verification:
    """The verdict on the readings of a test, and what moved."""
    parts, noise = by_purpose(taken, 1), calibration.response.noise
    prediction = predicted_points(spec, parts[POINTS], model, noise, calibration.drift)
    allan = allan_check(spec, parts["allan"][0], model, noise, calibration.drift)
    found = verify_counts(prediction, allan)
    if found.verdict == "pass":
        return found
    return found.model_copy(update={"suspects": moved(retested(spec, prediction, model, noise, taken))})


def retested(
    spec: ChipSpec, prediction: Prediction, model: MeanModel, noise: NoiseModel, taken: Sequence[Taken]
) -> Retested:
    """The points of a test, or of a calibration's held-out block, and what may have moved there.

    Args:
        spec: of the chip.
        prediction: of the points.
        model: of the means.
        noise: of a shot.
        taken: all readings of the test in order, the points among them.
    """
    points = Points.of(spec, [item for item in taken if item.reading.purpose == POINTS])
    families = layout_of(spec).families(model, points, taken)
    return Retested(
        prediction, families, points.results(model), points.powers(model), model.gain, noise, model.own_noise
    )


def _check_geometry(was: ChipSpec, now: ChipSpec) -> None:
    """The record's arrays are for one size of tile and one set of codes."""
    for name in ("n_outputs", "n_inputs", "layout", "n_drives", "weight_code_range", "input_code_range", "count_range"):
        if getattr(was, name) != getattr(now, name):
            raise WrongChipError(
                f"chip {now.chip_id} had {name} {getattr(was, name)} when it was calibrated and states "
                f"{getattr(now, name)} now; calibrate it again"
            )
