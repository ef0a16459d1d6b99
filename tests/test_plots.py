"""Figures: their size on paper, what is in their files, and that a page can hold many."""

import re
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest

from cgcnn import plots

LINE = plots.Curve(np.arange(1, 5), np.array([4.0, 2.0, 1.0, 1.5]), "split 1", best=2)


def line(ax) -> None:
    ax.plot([0, 1], [0, 1], label="a line")
    ax.set(xlabel="x (eV)", ylabel="y")


@pytest.mark.parametrize("width", [plots.COLUMN, plots.PAGE])
def test_a_figure_is_as_wide_as_the_column_of_a_paper(tmp_path, width):
    plots.save(plots.figure(line, width=width, height=6.0), tmp_path / "f")
    png = (tmp_path / "f.png").read_bytes()
    pixels = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    assert pixels == pytest.approx((width / 2.54 * 300, 6.0 / 2.54 * 300), abs=1)
    box = re.search(rb"/MediaBox \[\s*0 0 ([\d.]+) ([\d.]+)", (tmp_path / "f.pdf").read_bytes())
    assert float(box[1]) / 72 * 2.54 == pytest.approx(width, abs=0.01)


def test_the_text_of_a_pdf_can_be_edited(tmp_path):
    _, pdf = plots.save(plots.figure(line), tmp_path / "f")
    assert b"/FontFile2" in pdf.read_bytes()  # a TrueType font, not outlines
    assert b"/Type3" not in pdf.read_bytes()


def test_files_are_whole_or_not_there(tmp_path):
    def broken(ax):
        ax.set_xlabel("$unfinished {formula$")

    with pytest.raises(ValueError):
        plots.save(plots.figure(broken), tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


def test_several_panels_have_letters():
    fig = plots.panels([line] * 3, columns=2, width=plots.PAGE, height=5.0)
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["(a)", "(b)", "(c)"]
    assert fig.get_size_inches() * 2.54 == pytest.approx([17.5, 10.0])
    assert plots.figure(line).axes[0].get_title(loc="left") == ""


def test_figures_of_one_page_share_no_ids():
    one, other = (plots.svg(plots.figure(partial(plots.curves, lines=[LINE], ylabel="loss")), n, "d") for n in "ab")
    ids = re.findall(r'\bid="([^"]*)"', one + other)
    assert len(ids) == len(set(ids)) > 10
    links = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', one)
    assert links and all((a or b) in ids for a, b in links)


def test_an_svg_is_text_with_a_description_and_nothing_from_outside():
    element = plots.svg(plots.figure(line), "f", 'MAE of <a> & "b"')
    assert element.startswith('<svg role="img" aria-label="MAE of &lt;a&gt; &amp; &quot;b&quot;"')
    assert "x (eV)</text>" in element
    assert "<script" not in element and "@import" not in element
    assert not re.search(r'(?:href|src)="http', element)


def test_the_same_figure_gives_the_same_svg():
    first, second = (plots.svg(plots.figure(line), "f", "d") for _ in range(2))
    assert first == second


NUMBERS = {0.38512: "0.385", 12.34: "12.3", 1234.5: "1\u202f234", 0.00861: "0.00861", 2e-6: "2.0e−06", 0.0: "0.00"}
NUMBERS |= {-0.5: "−0.500", float("nan"): "–"}


@pytest.mark.parametrize("value", NUMBERS)
def test_numbers_have_three_digits_that_matter(value):
    assert plots.number(value) == NUMBERS[value]


def test_a_quantity_without_unit_has_no_space_behind_it():
    assert plots.quantity(1.0, "") == "1.00"
    assert plots.quantity(1.0, "eV/atom") == "1.00 eV/atom"


def test_text_can_be_read_on_every_shade():
    for part in np.linspace(0, 1, 21):
        background, text = plots.shade(part)
        channels = [int(background[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        contrast = 1.05 / (light + 0.05) if text == "#ffffff" else (light + 0.05) / 0.05
        assert contrast > 4, part


def test_learning_curves_mark_the_epoch_that_was_kept():
    ax = plots.figure(partial(plots.curves, lines=[LINE], ylabel="loss", log=True)).axes[0]
    (dot,) = [drawn for drawn in ax.lines if drawn.get_marker() == "o"]
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (3, 1.0)
    assert ax.get_yscale() == "log"
    assert ax.get_legend() is None


def test_a_colour_a_split_and_a_line_a_network():
    lines = [plots.Curve(np.arange(3), np.arange(3.0) + k, f"split {k // 2}") for k in range(4)]
    ax = plots.figure(partial(plots.curves, lines=lines, ylabel="loss")).axes[0]
    assert [drawn.get_color() for drawn in ax.lines] == [plots.BLUE, plots.BLUE, plots.ORANGE, plots.ORANGE]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["split 0", "split 1"]


def test_the_error_over_the_number_of_labels_has_its_power_law(tmp_path):
    size = np.array([100.0, 200.0, 400.0])
    table = pd.DataFrame({"share": size / 400, "train": size, "BandGap_MAE": 3 * size**-0.25, "BandGap_MAE_std": 0.1})
    paths = plots.draw_learning_curve(table.assign(strain_MAE=0.5), tmp_path / "curve")
    assert [path.name for path in paths] == ["curve.png", "curve.pdf"] and all(path.exists() for path in paths)
    ax = plots.figure(partial(plots.errors_over_size, table=table, column="BandGap_MAE")).axes[0]
    assert "n^{-0.25}" in ax.get_legend().get_texts()[0].get_text()
    assert ax.get_ylabel() == "test MAE, band gap (eV)"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


@pytest.mark.filterwarnings("error")
def test_letters_of_other_scripts_are_no_fault():
    assert "ψ 带隙" in plots.svg(plots.figure(lambda ax: ax.set_xlabel("ψ 带隙")), "f", "d")


def test_a_rate_that_never_changes_stands_over_zero():
    steady = plots.Curve(np.arange(4), np.full(4, 0.01), "")
    ax = plots.figure(partial(plots.curves, lines=[steady], ylabel="learning rate")).axes[0]
    assert ax.get_ylim()[0] == 0


def test_a_name_with_dollars_is_no_formula():
    drawn = plots.figure(partial(plots.curves, lines=[LINE], ylabel="a$b$c {"))
    assert ">a$b$c {</text>" in plots.svg(drawn, "f", "d")


def test_a_program_that_only_trains_loads_no_plotting_library():
    code = "import sys, cgcnn.experiment, cgcnn.results; print({'matplotlib', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
