"""How close a reconstruction came: the only functions that see the truth and a reconstruction together.

Pixels are in [0, 1] here (x / x_max). A failure is a row of NaN: it is scored as the prior's guess in `mse`,
`psnr` and `ssim`, has no exact pixel, and is counted in `failures`. What is free in an attack was fixed
before this module saw it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parties.adversary.attack import Prior, Quantity, Reconstruction
from protocols.language.errors import DataError

PSNR_CAP_DB = 99.0  # an exact image has an infinite PSNR, which would drown a quartile and is no JSON
SSIM_IMAGES = 1000
_SSIM_WINDOW = 7
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2
_BLOCK = 4096
_SHUFFLES = 100  # of clusters over samples, for what a renaming that fits best is worth by itself

Images = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What an attack was after: images (N, n) integers in [0, x_max], labels (N,), an image's shape."""

    images: NDArray[Any]
    labels: NDArray[Any]
    x_max: int
    shape: tuple[int, ...]
    owners: NDArray[np.int64] | None = None  # whose each sample is, where that is asked

    def pixels(self, index: NDArray[np.int64]) -> Images:
        """The images at some positions, in [0, 1]; `DataError` if a position is not one."""
        if len(index) and not (index.min() >= 0 and index.max() < len(self.images)):
            raise DataError(
                f"a reconstruction names samples {index.min()} to {index.max()} of {len(self.images)}"
            )
        scaled: Images = self.images[index] / float(self.x_max)
        return scaled


def nearest_of_class(recon: Reconstruction, truth: Truth) -> Reconstruction:
    """An image of an owner and class (index owner * k + class) as the nearest of its samples."""
    if recon.quantity is not Quantity.CLASS_IMAGES or truth.owners is None:
        return recon
    classes, found = int(truth.labels.max()) + 1, []
    for number, image in zip(recon.index, recon.values, strict=True):
        (mine,) = np.nonzero((truth.owners == number // classes) & (truth.labels == number % classes))
        errors = np.square(truth.pixels(mine) - image).mean(axis=1)
        found.append(mine[np.nan_to_num(errors, nan=np.inf).argmin()])
    return replace(recon, quantity=Quantity.IMAGES, index=np.array(found, np.int64))


def matched(recon: Reconstruction, truth: Truth) -> Reconstruction:
    """The same with images in no order at the places of the samples that they come nearest to, one each.

    One matching on the mean squared error (H. Kuhn, 1955) for all metrics; the adversary does not know it.
    """
    if recon.quantity is not Quantity.UNORDERED_IMAGES:
        return recon
    rows = np.asarray(recon.values)[np.isfinite(recon.values).all(axis=1)]
    true = truth.pixels(recon.index)
    far = ((rows**2).sum(axis=1)[:, None] - 2 * rows @ true.T + (true**2).sum(axis=1)) / true.shape[1]
    mine, theirs = _assigned(far)
    values = np.full((len(recon.index), true.shape[1]), np.nan)
    values[theirs] = rows[mine]
    finite = np.flatnonzero(np.isfinite(recon.values).all(axis=1))
    said = {name: np.full(len(recon.index), np.nan) for name in recon.per_sample}
    for name, each in recon.per_sample.items():  # what it says of an image goes where the image goes
        said[name][theirs] = np.asarray(each, np.float64)[finite[mine]]
    return replace(recon, quantity=Quantity.IMAGES, values=values, per_sample=said)


def score(recon: Reconstruction, truth: Truth, prior: Prior, seed: int) -> dict[str, Any]:
    """Score a reconstruction by index; plain data with the metric names of result.json.

    `mse`, `mse_median`, `mse_iqr` ([first, third quartile] over images), `psnr` (dB, median over images, each
    capped at 99), `ssim` (mean over at most 1000 images drawn by `seed`), `exact_pixels` (share in [0, 1]);
    for labels `labels_right` (share), for classes `classes_right`, the same under the renaming that fits
    best; for a Gram matrix and a span `relative_error`, for the former also `pairs` (share that it
    determines); always `samples`, `failures`, `solved_at_step`, and nothing else where there is no sample.
    """
    recon = matched(recon, truth)
    common = {"samples": len(recon.index), "failures": 0, "solved_at_step": recon.solved_at_step}
    if recon.quantity is Quantity.MASTER_KEY:
        return {**common, "failures": int(recon.solved_at_step is None)}
    if recon.quantity is Quantity.GRAM:
        determined = {"pairs": float(np.isfinite(recon.values).mean())} if recon.values.size else {}
        return {**common, **determined, "relative_error": gram_error(recon.values, truth.pixels(recon.index))}
    if recon.quantity is Quantity.SPAN:
        return {**common, "relative_error": span_error(recon.values, truth.pixels(recon.index))}
    if len(recon.values) != len(recon.index):
        raise DataError(f"a reconstruction of {len(recon.values)} values names {len(recon.index)} samples")
    if not len(recon.index):
        return common
    if recon.quantity is Quantity.LABELS:
        return {**common, "labels_right": labels_right(recon.values, truth.labels[recon.index])}
    if recon.quantity is Quantity.CLASSES:
        return {**common, "classes_right": labels_right(renamed(recon, truth), truth.labels[recon.index])}
    return {**common, **_score_images(recon, truth, prior, seed)}


def baseline_guess(
    recon: Reconstruction, truth: Truth, prior: Prior, seed: int = 0, labelled: bool = False
) -> dict[str, Any]:
    """The same metrics for the best guess from the prior alone, for the samples of a reconstruction.

    Images: `zero_line`, one image for all, or for each class where the view is `labelled`. Labels: the most
    frequent class. Classes, which are renamed to fit best: that too, or the same clusters over samples at
    random, if that fits better. Gram matrix: that of images that are the guess and vary about it as the
    public ones do. Span: the principal directions of the public images, as many as the attack found.
    """
    if recon.quantity is Quantity.LABELS:
        return {"labels_right": _majority(recon, truth)}
    if recon.quantity is Quantity.CLASSES:
        return {"classes_right": _by_chance(recon, truth, seed)}
    if recon.quantity is Quantity.MASTER_KEY or not len(recon.index):
        return {}
    guessed = _guessed(recon, truth, prior, labelled)
    return score(replace(recon, values=guessed, solved_at_step=None), truth, prior, seed)


def zero_line(index: NDArray[np.int64], truth: Truth, prior: Prior, labelled: bool) -> Images:
    """Images (m, n) that nothing but the prior gives for samples: the mean of the public ones, of their class
    where the view tells classes; mid-range without public images.
    """
    means = np.tile(prior.guess(), (int(truth.labels.max(initial=0)) + 1, 1))
    if tells_classes(prior, labelled):
        assert prior.public is not None and prior.public_labels is not None
        for label in np.intersect1d(prior.public_labels, np.arange(len(means))):
            means[label] = prior.public[prior.public_labels == label].mean(axis=0)
    found: Images = means[truth.labels[index]]
    return found


def tells_classes(prior: Prior, labelled: bool) -> bool:
    """Whether the mean of a class is known: the view tells the classes, and public images have some."""
    return labelled and prior.public_labels is not None and prior.public is not None


def _guessed(recon: Reconstruction, truth: Truth, prior: Prior, labelled: bool) -> NDArray[Any]:
    guess = prior.guess()
    public = np.zeros((0, len(guess))) if prior.public is None else prior.public
    if recon.quantity is Quantity.GRAM:
        means = zero_line(recon.index, truth, prior, labelled)
        spread = float(public.var(axis=0).sum()) if len(public) else len(guess) / 12
        around = np.square(means - guess).sum(axis=1)  # of the variance, what the means of classes explain
        found: NDArray[Any] = means @ means.T + np.diag(np.maximum(spread - around, 0.0))
        return found
    if recon.quantity is Quantity.SPAN:
        sample = public[:SSIM_IMAGES] if len(public) else guess[None]
        directions: NDArray[Any] = np.linalg.svd(sample, full_matrices=False)[2][: len(recon.values)]
        return directions
    return zero_line(recon.index, truth, prior, labelled)


def _majority(recon: Reconstruction, truth: Truth) -> float:
    return float(np.bincount(truth.labels[recon.index]).max(initial=0) / max(1, len(recon.index)))


def renamed(recon: Reconstruction, truth: Truth) -> NDArray[np.int64]:
    """Classes (m,) under the names that fit best, one to one (H. Kuhn, 1955); a cluster beyond the last class
    has none, -1.
    """
    found, labels = np.asarray(recon.values), truth.labels[recon.index]
    both = np.zeros((int(found.max(initial=0)) + 1, int(truth.labels.max()) + 1), np.int64)
    np.add.at(both, (found, labels), 1)
    mine, theirs = _assigned(-both)
    names = np.full(len(both), -1)
    names[mine] = theirs
    renaming: NDArray[np.int64] = names[found]
    return renaming


def _by_chance(recon: Reconstruction, truth: Truth, seed: int) -> float:
    """The share that clusters of these sizes get right without the secret, mean over shuffles; or one cluster
    for all.
    """
    rng, labels, shares = np.random.default_rng(seed), truth.labels[recon.index], []
    for _ in range(_SHUFFLES):
        guess = replace(recon, values=rng.permutation(np.asarray(recon.values)))
        shares.append(labels_right(renamed(guess, truth), labels))
    return max(_majority(recon, truth), float(np.mean(shares)) if len(labels) else 0.0)


def gain(recon: Reconstruction, truth: Truth, prior: Prior, labelled: bool = False) -> dict[str, Any] | None:
    """How much better than the prior's guess a reconstruction is, with a 95 % interval; None for what is one
    number.

    Images: guess's MSE less the attack's, mean over images. Labels and classes: the attack's share less that
    of the guess. Above zero by more than the interval, the attack found something.
    """
    recon = matched(recon, truth)
    if recon.quantity is Quantity.IMAGES and len(recon.index) > 1:
        guess = zero_line(recon.index, truth, prior, labelled)
        won = _errors(guess, recon.index, truth, prior) - _errors(recon.values, recon.index, truth, prior)
        return _interval("mse", won)
    if recon.quantity is Quantity.LABELS and len(recon.index) > 1:
        right = (np.asarray(recon.values) == truth.labels[recon.index]).astype(np.float64)
        return _interval("share", right - _majority(recon, truth))
    if recon.quantity is Quantity.CLASSES and len(recon.index) > 1:
        right = (renamed(recon, truth) == truth.labels[recon.index]).astype(np.float64)
        return _interval("share", right - _by_chance(recon, truth, 0))
    return None


def _errors(values: NDArray[Any], index: NDArray[np.int64], truth: Truth, prior: Prior) -> Images:
    """Mean squared error of each image."""
    starts = range(0, len(index), _BLOCK)
    return np.concatenate(
        [_score_block(values[i : i + _BLOCK], index[i : i + _BLOCK], truth, prior)[0] for i in starts]
    )


def _interval(measure: str, differences: Images) -> dict[str, Any]:
    mean, half = float(differences.mean()), 1.96 * float(differences.std(ddof=1)) / len(differences) ** 0.5
    return {"measure": measure, "mean": mean, "interval": [mean - half, mean + half]}


def baseline_projection(
    recon: Reconstruction, truth: Truth, prior: Prior, seed: int
) -> dict[str, Any] | None:
    """The same metrics for the least-norm correction of a constant image, where the attack gives it."""
    if recon.projection is None:
        return None
    return score(Reconstruction(Quantity.IMAGES, recon.index, recon.projection), truth, prior, seed)


def mse(values: Images, true: Images) -> Images:
    """Mean squared error of each image, (m,)."""
    error: Images = ((values - true) ** 2).mean(axis=1)
    return error


def psnr(errors: Images) -> Images:
    """Peak signal-to-noise ratio in dB of images with these mean squared errors, peak 1, capped."""
    return np.minimum(-10.0 * np.log10(np.maximum(errors, 1e-30)), PSNR_CAP_DB)


def ssim(values: Images, true: Images, shape: tuple[int, ...], seed: int) -> float:
    """Mean structural similarity (Wang et al., 2004) of at most 1000 images, small ones in small windows.

    Windows weigh their pixels alike and lie inside of the image; variances are unbiased; of colours the mean.
    """
    side = min(_SSIM_WINDOW, *shape[:2])
    drawn, planes = _drawn(len(true), seed), (*shape, 1)[:3]
    x, y = (np.moveaxis(some[drawn].reshape(-1, *planes), 3, 1) for some in (values, true))
    found = _similarity(x, y, side - (side + 1) % 2)
    return float(np.mean([np.mean([plane.mean() for plane in image]) for image in found]))


def _similarity(x: Images, y: Images, window: int) -> Images:
    """Structural similarity at the windows (m, planes, rows, columns) of images of peak 1 (Wang et al., 2004,
    equation 13).
    """
    from scipy.ndimage import uniform_filter

    def mean(values: Images) -> Images:
        found: Images = uniform_filter(values, size=(1, 1, window, window))
        return found

    unbiased = window**2 / (window**2 - 1)
    mx, my = mean(x), mean(y)
    vx, vy, vxy = (unbiased * (mean(a * b) - ma * mb) for a, b, ma, mb in
                   ((x, x, mx, mx), (y, y, my, my), (x, y, mx, my)))  # fmt: skip
    above = (2 * mx * my + _SSIM_C1) * (2 * vxy + _SSIM_C2)
    found: Images = above / ((mx**2 + my**2 + _SSIM_C1) * (vx + vy + _SSIM_C2))
    edge = (window - 1) // 2
    return found[..., edge : found.shape[2] - edge, edge : found.shape[3] - edge]


def _assigned(cost: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the cheapest one-to-one assignment."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost)
    return rows, columns


def _drawn(count: int, seed: int) -> NDArray[np.int64]:
    """At most 1000 of `count` positions, in order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:SSIM_IMAGES])


def labels_right(values: NDArray[Any], labels: NDArray[Any]) -> float:
    """Share of labels that are right."""
    return float(np.mean(np.asarray(values) == labels))


def relative_error(estimate: NDArray[Any], true: NDArray[Any]) -> float:
    """|estimate - true| / |true| in the Frobenius norm; of a Gram matrix."""
    return float(np.linalg.norm(estimate - true) / np.linalg.norm(true))


def gram_error(estimate: NDArray[Any], true: Images) -> float:
    """Relative error of a Gram matrix (m, m) of images (m, n), over the pairs that are not NaN."""
    products, known = true @ true.T, np.isfinite(estimate)
    return relative_error(estimate[known], products[known])


def span_error(basis: NDArray[Any], true: Images) -> float:
    """Share of images (m, n), in norm, that lies outside of the span of the orthonormal rows (d, n)."""
    return relative_error((true @ basis.T) @ basis, true)


def _score_images(recon: Reconstruction, truth: Truth, prior: Prior, seed: int) -> dict[str, Any]:
    shape = (len(recon.index), truth.images.shape[1])
    if recon.values.shape != shape:
        raise DataError(f"a reconstruction has shape {recon.values.shape}, the truth {shape}")
    # In blocks: 60 000 images in float64 are 400 MB, and there would be several such arrays.
    starts = range(0, len(recon.index), _BLOCK)
    blocks = [
        _score_block(recon.values[i : i + _BLOCK], recon.index[i : i + _BLOCK], truth, prior) for i in starts
    ]
    errors = np.concatenate([block[0] for block in blocks])
    return {
        "failures": sum(block[1] for block in blocks),
        "mse": float(errors.mean()),
        "mse_median": float(np.median(errors)),
        "mse_iqr": [float(q) for q in np.percentile(errors, (25, 75))],
        "psnr": float(np.median(psnr(errors))),
        **_ssim(recon, truth, prior, seed),
        "exact_pixels": sum(block[2] for block in blocks) / (shape[0] * shape[1]),
        "exact_images": sum(block[3] for block in blocks),
    }


def _score_block(
    values: NDArray[Any], index: NDArray[np.int64], truth: Truth, prior: Prior
) -> tuple[Images, int, int, int]:
    """(mean squared error of each image, failures, exact pixels, images of which all are)."""
    scored, failed = _filled(values, prior)
    true = truth.pixels(index)
    # Half a quantum, open: rounding to integers gives the true pixel. A half itself would be right for two of
    # them.
    exact = (np.abs(scored - true) * truth.x_max < 0.5) & ~failed[:, None]
    return mse(scored, true), int(failed.sum()), int(exact.sum()), int(exact.all(axis=1).sum())


def _filled(values: NDArray[Any], prior: Prior) -> tuple[Images, NDArray[np.bool_]]:
    """Images with the prior's guess instead of failures, and which failed."""
    failed: NDArray[np.bool_] = np.logical_not(np.isfinite(values).all(axis=1))
    return np.where(failed[:, None], prior.guess()[None, :], values), failed


def _ssim(recon: Reconstruction, truth: Truth, prior: Prior, seed: int) -> dict[str, float]:
    if len(truth.shape) < 2 or min(truth.shape[:2]) < 3:
        return {}  # no image, or no window fits
    chosen = _drawn(len(recon.index), seed)  # before anything is scaled or filled
    scored, _ = _filled(recon.values[chosen], prior)
    return {"ssim": ssim(scored, truth.pixels(recon.index[chosen]), truth.shape, seed)}
