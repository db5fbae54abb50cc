"""The page of a made-up study: its numbers, its figures, and that it needs nothing but itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from madeup import made_up

from photonic.cli import main
from photonic.study.campaign import write_results
from photonic.study.figures import draw_figures
from photonic.study.grid import parse_grid
from photonic.study.intervals import grouped
from photonic.study.outcome import Outcome
from photonic.study.store import StudyFolder

EPS = (0.2, 0.5, 0.8)


def table() -> list[Outcome]:
    """GELU is 4 points above ReLU at EP 0.2, 8 at 0.5, and both are at chance at 0.8; 3 seeds."""
    rows = [made_up(seed, (0.6, 0.62 + 0.01 * seed)) for seed in range(3)]
    for ep, relu, gain in zip(EPS, (0.5, 0.4, 0.1), (0.04, 0.08, 0.0), strict=True):
        for seed in range(3):
            for name, accuracy in (("relu", relu), ("gelu", relu + gain)):
                wobble = 0.01 * seed + (0.001 * seed if name == "gelu" else 0.0)
                wobble *= ep != 0.8
                noise = {"backend": "study", "precision": 64, "ep": ep}
                rows.append(made_up(seed, (accuracy + wobble + 0.05, accuracy + wobble), **noise, activation=name))
    return rows


@pytest.fixture
def written(tmp_path: Path) -> str:
    folder = StudyFolder(tmp_path)
    folder.prepare()
    rows = table()
    for outcome in rows:
        folder.write_outcome(outcome)
    grid = parse_grid('name = "g"\ntitle = "A <made up> study"\n[[grid]]\nbackend = "digital"\n', "g")
    folder.write_plan(grid, [outcome.cell for outcome in rows])
    _, page = write_results(folder)
    assert page is not None
    return page.read_text()


def cells(text: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


def test_the_tables_have_the_known_differences(written: str) -> None:
    """Seeds move GELU by 0, 0.1, 0.2 points more: 8 + 0.1, with t(0.975, 2) 0.1 / sqrt(3) = 0.25.

    Nobody stopped early, of which no column speaks.
    """
    gelu = [row for row in cells(written) if row[0] == "GELU" and len(row) == 6]
    assert [row[4] for row in gelu if row[4]] == ["+4.10 ± 0.25 *", "+8.10 ± 0.25 *", "+0.00 ± 0.00"]
    assert "49.10 ± 2.73" in {row[2] for row in gelu}
    assert "54.10 ± 2.73" in {row[3] for row in gelu}  # the best epoch is the first


def test_the_comparison_says_what_holds_and_what_says_nothing(written: str) -> None:
    rows = {row[0]: row[1:] for row in cells(written) if len(row) == 5 and "EP" in row[0]}
    (half,) = (row for name, row in rows.items() if "EP 0.5" in name)
    (most,) = (row for name, row in rows.items() if "EP 0.8" in name)
    assert half == ["GELU", "none", "none", "informative"]
    assert most == ["none", "none", "GELU", "no activation is above chance"]
    assert "Of 3 differences the 95\N{NO-BREAK SPACE}% intervals of 2 leave out 0" in written


def test_the_page_needs_nothing_but_itself(written: str) -> None:
    assert "A &lt;made up&gt; study" in written
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", written)
    assert "<script" not in written
    assert "default-src 'none'" in written


def test_every_element_is_closed_and_every_id_is_its_own(written: str) -> None:
    class Balance(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open, self.ids = list[str](), list[str]()

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.ids += [value for name, value in attrs if name == "id" and value]
            if tag not in ("meta", "br"):
                self.open.append(tag)

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.ids += [value for name, value in attrs if name == "id" and value]

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(written)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))


def test_tables_scroll_and_pictures_shrink_where_the_page_is_narrow(written: str) -> None:
    """What a phone needs: a viewport, no fixed widths, tables in boxes that scroll."""
    assert 'name="viewport" content="width=device-width' in written
    assert written.count("<table") == written.count('<div class="scroll"')
    assert not re.search(r"<svg[^>]* width=", written)


def test_accuracy_is_drawn_against_ep_with_the_digital_network_at_zero() -> None:
    drawn, notes = draw_figures(grouped(table()))
    (figure,) = drawn
    assert notes == []
    assert figure.name == "ep-1"
    assert sorted(figure.lines) == ["GELU", "ReLU"]
    assert sorted(figure.lines["ReLU"]) == [0.0, *EPS]
    assert sorted(figure.lines["GELU"]) == list(EPS)  # nobody ran it without noise
    assert "EP 0 is the digital network" in figure.caption


def test_accuracy_is_drawn_against_interpolation_from_relu_on() -> None:
    rows = [made_up(0, (0.5,))]
    rows += [made_up(0, (0.5 + i / 10,), activation="gelu", interpolation=i) for i in (0.5, 1.0)]
    (figure,) = draw_figures(grouped(rows))[0]
    assert figure.name == "interpolation-1"
    assert sorted(figure.lines["GELU"]) == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(("axis", "values"), [("noise", ("gaussian", "uniform")), ("precision", (4, 64))])
def test_other_axes_are_drawn_as_they_are(axis: str, values: tuple[object, ...]) -> None:
    fixed = {"backend": "study", "precision": 64, "ep": 0.5}
    rows = [made_up(0, (0.5,), **(fixed | {axis: value}), activation=a) for value in values for a in ("relu", "gelu")]
    (figure,) = draw_figures(grouped(rows))[0]
    assert figure.name == f"{axis}-1"
    assert set(figure.lines["ReLU"]) == set(values)


def test_the_report_command_makes_the_page_again(
    written: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.html").unlink()
    with pytest.raises(SystemExit) as ended:
        main(["study", "report", str(tmp_path), "--json"])
    assert ended.value.code == 0
    assert (tmp_path / "report.html").read_text() == written
    with pytest.raises(SystemExit) as ended:
        main(["study", "report", str(tmp_path / "nothing")])
    assert ended.value.code == 2
    assert "is no study's folder" in capsys.readouterr().err


def test_the_report_command_compares_with_a_named_activation(
    written: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ReLU less GELU is the same with the other sign; a name that no table has is refused with those that they have."""
    with pytest.raises(SystemExit) as ended:
        main(["study", "report", str(tmp_path), "--against", "GELU"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    found = [line.split("±", 1)[1].split()[1:4] for line in lines if line.startswith("ReLU") and "±" in line]
    assert [each for each in found if each] == [["-4.10", "±", "0.25"], ["-8.10", "±", "0.25"], ["+0.00", "±", "0.00"]]
    with pytest.raises(SystemExit) as ended:
        main(["study", "report", str(tmp_path), "--against", "SiLU"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "ReLU, GELU" in error
    assert "'SiLU'" in error


def test_lines_beyond_the_colours_look_different() -> None:
    """Nine activations and more: none repeats colour and style of another."""
    from matplotlib.figure import Figure

    leaks = [0.05 * i for i in range(12)]
    rows = [made_up(0, (0.5,), backend="study", precision=64, ep=ep, leak=leak) for leak in leaks for ep in (0.2, 0.5)]
    drawn = next(each for each in draw_figures(grouped(rows))[0] if each.name == "ep-1")
    axes = Figure().subplots()
    drawn.paint(axes)
    looks = [(bar.lines[0].get_color(), bar.lines[0].get_linestyle()) for bar in axes.containers]
    assert len(set(looks)) == len(looks) == 12
