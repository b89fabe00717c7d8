"""Is what a view determines locally also found? Gauss-Newton on what was seen, from random starts.

Local determination leaves room for discrete symmetries, such as a permutation of units or classes, and says
nothing of how hard it is to solve. Here the unknowns of a coalition are fitted to what it saw by
`scipy.optimize.least_squares`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from parties.audit.determined import seen
from parties.audit.draws import INPUT, Unknown
from parties.audit.instance import Instance
from parties.audit.quantities import Layout, label_of, one_hot

Reals = NDArray[np.float64]

_FITTED = 1e-6  # relative residual below which a start has reached what was seen
_FOUND = 1e-3  # largest difference, in units, of an unknown or an inner product that was found
_TRIES = 60  # evaluations with a derivative each


@dataclass(frozen=True)
class Start:
    """What came of one start: how well it fits, and the largest error of each input and of its inner
    products.
    """

    residual: float
    errors: dict[str, float]

    @property
    def fits(self) -> bool:
        """Whether it explains everything that was seen."""
        return self.residual < _FITTED

    def said(self) -> str:
        """In words: what was found, and up to which symmetry."""
        if not self.fits:
            return f"no fit: residual {self.residual:.0e}"
        found = [name for name, error in self.errors.items() if error < _FOUND]
        turned = [name.partition(":")[0] for name in found if name.endswith(": inner products")]
        words = [name for name in found if not name.endswith(": inner products")]
        words += [f"{name} up to a rotation" for name in turned if name not in words]
        missed = [
            name for name in self.errors if ":" not in name and name not in found and name not in turned
        ]
        words += [f"other {name} fit as well" for name in missed]
        return "; ".join(words)


def rebuild(instance: Instance, parties: tuple[str, ...], starts: int, seed: int = 0) -> list[Start]:
    """Fit the unknowns of a coalition from random starts."""
    coalition, rng = frozenset(parties), np.random.default_rng(seed)
    trace, found = instance.run()
    layout = Layout(list(found.values()), coalition)
    target = [item.numbers for item in seen(trace, coalition)]
    scales = [max(float(np.abs(numbers).max(initial=0.0)), 1e-12) for numbers in target]

    def misfit(theta: Reals) -> Reals:
        moved = seen(instance.run(_moved(layout, theta))[0], coalition)
        parts = [(item.numbers - numbers) / scale
                 for item, numbers, scale in zip(moved, target, scales, strict=True)]  # fmt: skip
        return np.concatenate(parts) if parts else np.zeros(0)

    def one() -> Start:
        begin = np.concatenate([np.ravel(_begin(each.values / each.unit, rng)) for each in layout.unknowns])
        fit = least_squares(misfit, begin, max_nfev=_TRIES, x_scale=1.0, ftol=1e-15, xtol=1e-15, gtol=1e-15)
        return Start(float(np.abs(fit.fun).max(initial=0.0)), _errors(layout, fit.x))

    return [one() for _ in range(starts)] if layout.size else []


def _begin(values: Reals, rng: np.random.Generator) -> Reals:
    """Where a start begins: uniform where inputs lie, normal where draws do."""
    return (
        rng.uniform(0, 1, values.shape)
        if values.min() >= 0
        else rng.standard_normal(values.shape) * values.std()
    )


def _moved(layout: Layout, theta: Reals) -> dict[str, Reals]:
    """The unknowns as moves from their values in the run, which `theta` (in units) replaces."""
    return {each.name: part * each.unit - each.values for each, part in _parts(layout, theta)}


def _parts(layout: Layout, theta: Reals) -> list[tuple[Unknown, Reals]]:
    found = []
    for each in layout.unknowns:
        at = layout.start[each.name]
        found.append((each, theta[at : at + each.values.size].reshape(each.values.shape)))
    return found


def _errors(layout: Layout, theta: Reals) -> dict[str, float]:
    errors: dict[str, float] = {}
    for each, part in _parts(layout, theta):
        if each.kind != INPUT:
            continue
        name, true = label_of(each), each.values / each.unit
        errors[name] = max(errors.get(name, 0.0), float(np.abs(part - true).max()))
        if true.ndim == 2 and not one_hot(each.values):
            gram = float(np.abs(part @ part.T - true @ true.T).max())
            errors[f"{name}: inner products"] = max(errors.get(f"{name}: inner products", 0.0), gram)
    return errors
