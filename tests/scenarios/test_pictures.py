"""Pictures of reconstructions."""

import numpy as np
import pytest
from matplotlib.image import imread

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
