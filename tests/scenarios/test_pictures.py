"""Pictures of reconstructions."""

import numpy as np
import pytest
from matplotlib.image import imread

from scenarios.show.charts import draw_knowledge, draw_rates, draw_widths, resolved
from scenarios.show.pictures import grid

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_a_grid_is_a_png_of_the_images(tmp_path, shape):
    true = RNG.random((3, int(np.prod(shape))))
    grid(tmp_path / "a.png", true, true * 0.5, shape, ["one", "two"], "Rebuilt")
    picture = imread(tmp_path / "a.png")[..., :3]
    coloured = np.ptp(picture, axis=2).max() > 0.1
    assert coloured == (len(shape) == 3)


def test_more_than_ten_images_make_no_wider_picture(tmp_path):
    true = RNG.random((14, 64))
    grid(tmp_path / "a.png", true, true, (8, 8))
    grid(tmp_path / "b.png", true[:10], true[:10], (8, 8))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_every_reconstruction_gets_a_row_and_a_failure_is_drawn(tmp_path):
    true = RNG.random((2, 64))
    failed = np.full((2, 64), np.nan)
    grid(tmp_path / "one.png", true, {"lp": true}, (8, 8))
    grid(tmp_path / "two.png", true, {"lp": true, "smooth": failed}, (8, 8))
    assert imread(tmp_path / "two.png").shape[0] > imread(tmp_path / "one.png").shape[0] + 150


def test_a_picture_is_written_as_svg_too_with_the_same_bytes_each_time(tmp_path):
    true = RNG.random((3, 64))
    for name in ("a", "b"):
        grid(tmp_path / f"{name}.png", true, {"prior's guess": true * 0.5, "lp": true}, (8, 8))
    one, two = ((tmp_path / f"{name}.svg").read_bytes() for name in ("a", "b"))
    assert one == two and one.startswith(b"<?xml") and b"<date>" not in one


def widths(**errors):
    """Rows of a sweep with one attack each at two widths."""
    return [
        {"attack": attack, "period": 4 if attack == "lp" else None, "hidden": hidden, "mse": mse,
         "guess_mse": 0.05, "projection_mse": 0.04}
        for attack, both in errors.items() for hidden, mse in zip((16, 64), both, strict=True)
    ]  # fmt: skip


def test_errors_below_rounding_are_drawn_where_they_are_and_exact_ones_as_circles(tmp_path, monkeypatch):
    axes = []
    monkeypatch.setattr("scenarios.show.charts._on_widths", lambda found, widths: axes.append(found))
    rows = widths(lp=(0.01, 1e-9), smooth=(0.01, 0.0), tv=(0.01, 0.001))
    draw_widths(tmp_path / "a.png", rows, "errors")
    lines = {line.get_label(): list(line.get_ydata()) for line in axes[0].lines}
    assert lines["lp, period 4"] == [0.01, 1e-9] and lines["smooth"][0] == 0.01
    assert np.isnan(lines["smooth"][1])
    (circle,) = [line for line in axes[0].lines if line.get_gid() == "exact"]
    assert list(circle.get_xdata()) == [64]


def test_rates_that_nulls_cannot_resolve_are_marked(tmp_path):
    allowed, tpr = np.geomspace(1e-3, 1, 50), np.linspace(0.1, 1, 50)
    assert resolved((allowed, tpr, 200)) == (0.005, 0.05)
    draw_rates(tmp_path / "few.png", {"a": (allowed, tpr, 200)}, "rates")
    draw_rates(tmp_path / "many.png", {"a": (allowed, tpr, 20_000)}, "rates")
    few, many = ((tmp_path / f"{name}.svg").read_text() for name in ("few", "many"))
    assert few.count("stroke-opacity: 0.3") == 1 and many.count("stroke-opacity: 0.3") == 0


def test_one_panel_for_the_same_curve_of_a_party(tmp_path):
    row = {"party": "cloud_trainer", "of": "all", "data": {"curve": [[0, 1, 0], [1, 4, 4]], "unknowns": 4}}
    (tmp_path / "figures").mkdir()
    draw_knowledge(tmp_path, [row, dict(row)])
    first = imread(tmp_path / "figures" / "knowledge.png").shape
    draw_knowledge(tmp_path, [row, {**row, "party": "key_authority"}])
    assert imread(tmp_path / "figures" / "knowledge.png").shape[0] == pytest.approx(2 * first[0], abs=2)
