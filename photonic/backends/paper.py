"""The noise model of arXiv 2402.02593 as a backend, for any model: ``paper?bits=6&ep=0.5``.

    x~ = RP(clamp(x)) + n,  w~ = RP(clamp(w)) + n,  y = RP(clamp(x~ w~ + n))

It approximates the study: the bias is added digitally after y was read, and is exact; every layer is treated alike. The
noise operation for operation is ``photonic.models.studynoise``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from photonic.backends.base import Backend, ConvGeometry
from photonic.backends.chip import Usage
from photonic.backends.streams import CallStreams
from photonic.errors import RecomputeError, SpecError
from photonic.physics.codenoise import CodeNoise
from photonic.physics.codes import LIMIT, Codes, MidTread, SignCodes, precision_of
from photonic.physics.errorprobability import mean_variance, noise_of_error_probability, noise_of_variance
from photonic.physics.straightthrough import straight_through, within_limits
from photonic.records import BackendSpec

QUANTISERS = ("mid-tread", "sign")
UNIT, MAX = SCALES = ("unit", "max")
EP, VARIANCE = MATCHES = ("ep", "variance")


@dataclass(frozen=True)
class PaperOptions:
    """What a spec string says after ``paper?``.

    Attributes:
        precision: p, steps per unit.
        bits: in place of the precision, by a convention.
        convention: of bits: ``study`` (p = 2^b), ``library`` (p = 2^b - 1) or ``signed`` (p = 2^(b - 1) - 1).
        quantiser: ``mid-tread``, or ``sign`` for one bit, which has no precision.
        ep: error probability of the noise on the codes.
        noise: its kind.
        match: a kind has this ``ep``, or the ``variance`` of Gaussian noise of this ep.
        inputs: whether inputs are converted, and noisy.
        outputs: whether outputs are.
        weights: whether weights are.
        scale: ``unit`` is the study's: everything is clamped to [-1, 1], inputs to the layer's input range if it has
            one. ``max`` scales inputs, weights and outputs of each call to their largest absolute value first.
    """

    precision: int | None = None
    bits: float | None = None
    convention: str = "study"
    quantiser: str = "mid-tread"
    ep: float = 0.0
    noise: str = "gaussian"
    match: str = EP
    inputs: bool = True
    outputs: bool = True
    weights: bool = True
    scale: str = UNIT

    def codes(self) -> Codes:
        """The digital values.

        Raises:
            SpecError: none or two of precision, bits and the sign quantiser, or one that cannot be.
        """
        given = self.precision is not None, self.bits is not None, self.quantiser == "sign"
        if self.quantiser not in QUANTISERS or sum(given) != 1:
            raise SpecError(
                "paper takes one of precision=P, bits=B (p = 2^B by the convention study) and quantiser=sign, found "
                f"precision={self.precision}, bits={self.bits}, quantiser={self.quantiser}"
            )
        if self.quantiser == "sign":
            return SignCodes()
        if self.bits is not None:
            return MidTread(precision_of(self.bits, self.convention))
        return MidTread(self.precision or 0)

    def code_noise(self) -> CodeNoise:
        """The noise on them.

        Raises:
            SpecError: a kind that does not exist, or an error probability that it cannot have.
        """
        codes = self.codes()
        if self.match == EP:
            return noise_of_error_probability(self.noise, self.ep, codes)
        gaussian = noise_of_error_probability("gaussian", self.ep, codes)
        return noise_of_variance(self.noise, mean_variance(gaussian, codes), codes)

    def check(self) -> None:
        """Refuses what the fields' own types do not.

        Raises:
            SpecError: says which option, what it takes and what was found.
        """
        for name, allowed in (("scale", SCALES), ("match", MATCHES)):
            if getattr(self, name) not in allowed:
                raise SpecError(f"{name} of paper is one of {', '.join(allowed)}, found {getattr(self, name)!r}")
        for name in ("inputs", "outputs", "weights"):
            if not isinstance(getattr(self, name), bool):
                raise SpecError(f"{name} of paper is true or false, found {getattr(self, name)!r}")
        for name in ("bits", "ep"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise SpecError(f"{name} of paper is a number, found {value!r}")

    def text(self) -> str:
        """The spec string that opens this again."""
        standard = PaperOptions()
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {name: value for name, value in given.items() if value != getattr(standard, name)}
        words = {True: "true", False: "false"}
        return "paper?" + "&".join(
            f"{name}={words[value] if isinstance(value, bool) else value}" for name, value in changed.items()
        )


class PaperBackend(Backend):
    """Clamp, reduced precision and noise around each product, and on its weight; differentiable as the study is.

    Backward is autograd's: straight through precision and noise, with the noisy operands of the same call; the clamps
    of inputs and outputs stop gradients beyond [-1, 1], that of weights does not. (With the exact product's gradient in
    its place, networks whose outputs are clamped do not learn.) What is not finite becomes NaN.

    Args:
        options: what the spec string says.
        seed: of the noise.
        purpose: names the noise stream.

    Raises:
        SpecError: an option that cannot be honoured.
    """

    def __init__(self, options: PaperOptions, *, seed: int = 0, purpose: str = "run") -> None:
        options.check()
        self.options, self.codes, self.noise = options, options.codes(), options.code_noise()
        super().__init__(BackendSpec(name=options.text(), differentiable=True))
        self._streams = CallStreams("paper", seed, purpose)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # compiled code cannot own a generator
    def _matmul(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._converted(x, weight, lambda seen, programmed: seen @ programmed.mT)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # likewise
    def _convolve(self, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
        native = torch.nn.functional.conv1d if weight.ndim == 3 else torch.nn.functional.conv2d
        rest = geometry.stride, geometry.padding, geometry.dilation, geometry.groups
        return self._converted(x, weight, lambda seen, programmed: native(seen, programmed, None, *rest))

    def _converted(self, x: Tensor, weight: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """A product between converters, in float32 or wider, in x's dtype."""
        if torch._C._current_graph_task_id() != -1:  # noqa: SLF001 - torch.utils.checkpoint asks it too
            raise RecomputeError(
                f"layer {self.site.name or '(unnamed)'} ran again inside backward, as activation checkpointing does: "
                "it would have other noise. Take this layer out of the checkpoint"
            )
        wide = torch.promote_types(x.dtype, torch.float32)
        with self._session.lock, torch.autocast(x.device.type, enabled=False):
            self._streams.begin_call()
            self._record(Usage(calls=1))
            y = product(self._fed(x.to(wide)), self._programmed(weight.to(wide)))
            return self._read(y).to(x.dtype)

    def _fed(self, x: Tensor) -> Tensor:
        """Inputs: clamp, reduce the precision, add noise."""
        if not self.options.inputs:
            return x
        scaled, scale = self._scaled(x, self.site.input_range)
        still = scaled.detach()
        return _unscaled(within_limits(scaled, still, self._analog(still)), scale)

    def _programmed(self, weight: Tensor) -> Tensor:
        """Weights: the same, without a mask."""
        if not self.options.weights:
            return weight
        scaled, scale = self._scaled(weight, None)
        return _unscaled(straight_through(scaled, self._analog(scaled.detach())), scale)

    def _read(self, y: Tensor) -> Tensor:
        """Outputs: add noise, clamp, reduce the precision."""
        if not self.options.outputs:
            return y
        scaled, scale = self._scaled(y, None)
        noisy = self.noise.noisy(scaled.detach(), self._streams.draws)
        read = self.codes.quantise(noisy.clamp(-LIMIT, LIMIT))
        return _unscaled(within_limits(scaled, noisy, read), scale)

    def _analog(self, scaled: Tensor) -> Tensor:
        """Digital values with noise; a clamp alone would make a number of infinity."""
        noisy = self.noise.noisy(self.codes.quantise(scaled.clamp(-LIMIT, LIMIT)), self._streams.draws)
        low, high = torch.aminmax(scaled)
        if bool(torch.isfinite(low) & torch.isfinite(high)):
            return noisy
        return torch.where(torch.isfinite(scaled), noisy, torch.nan)

    def _scaled(self, x: Tensor, full: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What is at most 1 where the scale says so, and the scale; None: 1."""
        if full is None and self.options.scale == UNIT:
            return x, None
        scale = x.detach().abs().amax() if full is None else full.to(x)
        # zeros stay zeros, whatever noise is on them: their scale is 0
        return x / torch.where(scale > 0, scale, torch.ones_like(scale)), scale

    def state(self) -> dict[str, Any]:
        """The index of the next call: noise is keyed by run seed, purpose, rank and call."""
        return self._streams.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on with the noise of call ``state["calls"]``.

        Raises:
            ChipError: the state is not one of this backend's.
        """
        self._streams.restore(state, self.spec.name)


def _unscaled(x: Tensor, scale: Tensor | None) -> Tensor:
    return x if scale is None else x * scale


def open_paper(
    argument: str = "", *, seed: int = 0, device: int = 0, purpose: str = "run", **options: Any
) -> PaperBackend:
    """Opens the spec string ``paper?bits=6&ep=0.5``; it has no device.

    Raises:
        SpecError: an argument, an unknown option, or a value that cannot be honoured.
    """
    known = [field.name for field in fields(PaperOptions)]
    unknown = sorted(set(options) - set(known))
    if argument or unknown:
        raise SpecError(f"paper takes the options {', '.join(known)}, found {argument or ', '.join(unknown)}")
    return PaperBackend(PaperOptions(**options), seed=seed, purpose=purpose)
