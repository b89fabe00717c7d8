"""The matrix of reverse homomorphic encryption: defences against attacks, accuracy beside the true positive rate.

Rows are those of result.json; what their rates mean is in `scenarios.roc`. A row that does not apply says why and has no rate.

    none, relaxloss, dp    the head in the clear: `whitebox`, `whitebox_net` (unprotected only), `informed`
    rhe                    the server's view, nothing released: real ciphertexts of every victim and of shadows, whose bytes the regression is
                           given as it is given weights; `control_tpr_01` is its rate on the same integers unencrypted
    rhe_float              phe's floats: their exponents are in the clear
    rhe_decision           decisions are fed back: `blackbox`, and `oracle` by a malicious server
    rhe_logits             logits are fed back

`blackbox`, `oracle` and `logits` ask the integer head (`oracle: integer_head`), which decides exactly as decrypted logits do. One victim is also asked
`real_queries` through real ciphertexts: `real_equal` says whether their logits are the same, `extrapolated_seconds` is the time that all queries would take.

delta is N^-1.1, nearly vacuous with five samples (`protocols.gaussian_dp`). What a DP row says is about these attacks and these heads: that
they fail is no proof that others do, and the rate that they have at a large epsilon is within what it allows. It neither confirms nor refutes
the paper's claim that DP-SGD fails, which is about other bases, heads and a stronger attack.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenarios.score.roc import SHIFTS, Trial, curve, rates, trial, trial_against
from scenarios.study.matrix_bench import Bench, MatrixOptions, Rebuilt, Row
from scenarios.study.matrix_clear import clear_rows
from scenarios.study.matrix_rhe import asked_rows, encrypted_rows

_NULLS = 1000  # of all classes, at least
_PICTURED = 10

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass
class Matrix:
    """What was found: rows of plain data, by name a curve for each, and images (10, n) of the first victims."""

    setting: dict[str, Any]
    truth: NDArray[np.float32]
    shape: tuple[int, ...]
    rows: list[Row] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    pictures: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """`matrix` and its setting as they are in result.json."""
        return {"setting": self.setting, "matrix": self.rows}


def matrix(options: MatrixOptions, observe: Callable[[Row], None] = lambda row: None) -> Matrix:
    """Measure the matrix; `observe` is told every row as it is done."""
    start, bench = time.perf_counter(), Bench(options)
    found = Matrix(bench.setting(), _first(bench.victims.images[:, :, 0]), bench.task.shape)
    for rows in (clear_rows, encrypted_rows, asked_rows):
        for row, rebuilt in rows(bench):
            found.rows.append(row if rebuilt is None else _scored(found, row, rebuilt))
            observe(found.rows[-1])
    found.setting["seconds"] = round(time.perf_counter() - start, 1)
    return found


def name_of(row: Row) -> str:
    """What a row is called in pictures and tables."""
    defence = f"dp, epsilon {row['epsilon']:g}" if "epsilon" in row else row["defence"].replace("_", " ")
    asked = f", {row['queries']} queries" if row["queries"] else ""
    return f"{defence}: {row['attack'].replace('_', '-')}{asked}"


def _scored(found: Matrix, row: Row, rebuilt: Rebuilt) -> Row:
    """The row with its rates; its curve and images are kept."""
    scored = _trial(rebuilt.images, rebuilt.truth)
    row = row | rates(scored)
    if rebuilt.random is not None:
        against = trial_against(rebuilt.images, rebuilt.random, rebuilt.truth)
        row["tpr_gaussian_01"] = rates(against)["tpr_at_fpr_01"]
    if rebuilt.control is not None:
        row["control_tpr_01"] = rates(_trial(rebuilt.control, rebuilt.truth))["tpr_at_fpr_01"]
    found.curves[name_of(row)], found.pictures[name_of(row)] = curve(scored), _first(rebuilt.images)
    return row


def _trial(images: NDArray[np.float32], truth: NDArray[np.float32]) -> Trial:
    """Against as many other victims for each as give enough nulls."""
    wanted = -(-_NULLS // (truth.shape[0] * truth.shape[1]))
    return trial(images, truth, min(len(truth) - 1, max(SHIFTS, wanted)))


def _first(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Images of the first victims, all classes of one after the other."""
    return images.reshape(-1, images.shape[-1])[:_PICTURED]
