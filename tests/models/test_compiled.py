"""torch.compile over converted models: one graph, the same results, fresh noise, and errors that still stop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import photonic
from photonic.errors import GradientError, RangeError

SPECS = ["digital", "twin", "twin:mesh-typical", "twin:crossbar-typical?rin_db_per_hz=-125", "sim"]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2),
        nn.SiLU(),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def _x(seed: int = 0) -> Tensor:
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spec", SPECS)
def test_the_graph_has_no_break(spec: str) -> None:
    """Forward and backward; the gradients are those of the eager model on the same noise."""
    model = photonic.convert_(_network(), photonic.open_backend(spec, seed=3))
    explained = torch._dynamo.explain(model)(_x())
    assert explained.graph_break_count == 0
    assert explained.graph_count == 1
    torch._dynamo.reset()
    grads, results = [], []
    for fullgraph in (True, False):
        model = photonic.convert_(_network(), photonic.open_backend(spec, seed=3))
        run = torch.compile(model, fullgraph=True, backend="aot_eager") if fullgraph else model
        y = run(_x())
        y.square().sum().backward()
        results.append(y.detach())
        grads.append([p.grad for p in model.parameters()])
    if "mesh" in spec:
        # its counts are coarse: one that falls the other way, for a rounding error before, shows in all that follows
        assert all(grad is not None and bool(grad.isfinite().all()) for grad in grads[0])
        return
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["digital", "twin"])
def test_inductor_trains(spec: str) -> None:
    """The default compiler: a training loop lowers the loss as the eager one does."""
    losses = []
    for compiled in (False, True):
        model = photonic.convert_(_network(), photonic.open_backend(spec, seed=3))
        run = torch.compile(model, fullgraph=True) if compiled else model
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for step in range(80):
            loss = nn.functional.cross_entropy(run(_x(step % 4)), torch.arange(4) + step % 4)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], abs=0.2)
    assert losses[1] < 0.7  # it starts near log(10) = 2.3


def test_equal_calls_are_two_measurements() -> None:
    """The compiler must not merge them, with or without gradients."""
    layer = photonic.convert_(nn.Linear(64, 64), photonic.open_backend("twin", seed=0))
    x = torch.rand(2, 64)
    twice = torch.compile(lambda x: (layer(x), layer(x)), fullgraph=True)
    first, second = twice(x)
    assert not torch.equal(first, second)
    with torch.no_grad():
        first, second = twice(x)
    assert not torch.equal(first, second)
    assert layer.backend.site.usage.calls == 4  # type: ignore[union-attr]


def test_a_refusal_stops_compiled_code_too() -> None:
    """With the layer's name."""
    model = photonic.convert_(_network(), photonic.open_backend("twin:typical?adc_full_scale=0.01"))
    with pytest.raises(RangeError, match=r"layer 0: .* beyond the rails"):
        torch.compile(model, fullgraph=True, backend="aot_eager")(_x())


def test_other_gradients_are_refused_in_compiled_code() -> None:
    """They are not traced; the message says what is."""
    model = photonic.convert_(nn.Linear(8, 8), photonic.open_backend("twin"), gradient="twin")
    with pytest.raises(Exception, match="compiled code has gradient='ideal' alone") as caught:
        torch.compile(model, fullgraph=True, backend="aot_eager")(torch.rand(2, 8))
    assert isinstance(caught.value, GradientError) or "GradientError" in str(caught.value)


def test_half_precision_and_autocast() -> None:
    """The dtype is what torch's own operation returns, compiled or not; arithmetic inside is float32."""
    for spec in ("twin", "digital"):
        layer = photonic.convert_(nn.Linear(16, 8).bfloat16(), spec)
        run = torch.compile(layer, fullgraph=True, backend="aot_eager")
        assert run(torch.rand(2, 16).bfloat16()).dtype == layer(torch.rand(2, 16).bfloat16()).dtype == torch.bfloat16
        layer = photonic.convert_(nn.Linear(16, 8), spec)
        run = torch.compile(layer, fullgraph=True, backend="aot_eager")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert run(torch.rand(2, 16)).dtype == layer(torch.rand(2, 16)).dtype == torch.bfloat16


@pytest.mark.parametrize("learned", [False, True], ids=["static", "learned"])
def test_input_ranges_compile(learned: bool) -> None:
    """They clamp, count, and learn as they do without the compiler."""
    found = []
    for compiled in (True, False):
        model = photonic.convert_(_network(), photonic.open_backend("twin", seed=3))
        photonic.set_input_range(model, 0.5, learned=learned)
        run = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
        y = run(_x())
        y.square().sum().backward()
        ranges = [model[0].input_range.grad] if learned else []
        found.append([y.detach(), model[0].weight.grad, *ranges])
        assert 0.3 < photonic.routes(model)[0].clipped_fraction < 0.7
    torch.testing.assert_close(found[0], found[1])
