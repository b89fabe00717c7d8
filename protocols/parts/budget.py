"""A budget on function keys: the authority counts the rank of the vectors that it issued keys for, and
refuses beyond it.

A key of an inner-product scheme is one linear equation on every ciphertext of its master key, so that keys of
rank r leave n - r dimensions of each sample open (FE security is against an adversary whose keys do not span
everything; Abdalla et al., PKC 2015, eprint 2015/017). Samples that are encrypted anew under a fresh master
key are the same samples: their vectors count together.

    key_budget       for keys of W1. C, once refused, returns to the last W1 that it was granted keys for,
                     asks no more, and trains the layers above. Says nothing of dW1, from which C learns a
                     batch without any key for W1
    gradient_budget  the same for keys of dZ1, which belong to an instance of their own, of length B

A refusal is a message and leaks: it says that the vectors asked for are not in the span of those issued. Here
the budget is public and one party asks for all keys, so C could have computed that itself; it would be news
to it if several shared a budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from protocols.crypto.integers.rank import Echelon
from protocols.language.errors import ConfigError
from protocols.language.figure import Arrow
from protocols.language.message import wire
from protocols.language.options import derived
from protocols.language.roles import CLOUD_TRAINER, KEY_AUTHORITY
from protocols.language.session import Located, Session
from protocols.language.state import Authority, Cloud
from protocols.network import training
from protocols.network.config import Gradient, KeyScope
from protocols.network.schedule import Batch
from protocols.parts import gradient, keys
from protocols.parts.gradient import AtOwner, UnderKeys


@wire
@dataclass(frozen=True)
class Refused:
    """No keys: with them the rank of what was issued, `rank`, would pass `budget`."""

    rank: int
    budget: int


STEP = (
    Arrow("step", KEY_AUTHORITY, CLOUD_TRAINER, "refused", "in place of keys beyond the budget",
          when="budget=yes", type=Refused),
)  # fmt: skip


@dataclass(frozen=True)
class Options(gradient.Options):
    """The largest rank of the keys that A issues for W1 and for dZ1; 0: any."""

    key_budget: int = derived("largest rank of the keys for W1 that are issued; 0: any", 0, least=0)
    gradient_budget: int = derived("the same for keys of dZ1", 0, least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.key_budget < 0 or self.gradient_budget < 0:
            raise ConfigError("a key budget must not be negative")

    @property
    def budget(self) -> str:
        """`yes` where the authority may refuse keys: a figure then has the arrows of a refusal."""
        return "yes" if self.key_budget or self.gradient_budget else "no"

    @property
    def query_keys(self) -> str:
        """Whether a query asks for keys, or makes do with those that training was granted, as a budget leaves
        no others.
        """
        return "kept" if self.budget == "yes" and self.keys_for is not KeyScope.BATCH else "asked"


class Freeze:
    """Whether A has refused keys: W1 then stays as it is, whichever keys they were."""

    def __init__(self) -> None:
        self.frozen = False

    def refused(self, s: Session, name: str, rows: Located, limit: int) -> bool:
        """Whether A refuses keys for these rows; C then returns to the last W1 that it has keys for. Limit 0:
        never.
        """
        a, c = s.at(KEY_AUTHORITY), s.at(CLOUD_TRAINER)
        if not limit or s.reveal(a.do(judge, name, rows, limit), why="granted"):
            return False
        c.do(freeze, a.send(c, refused=a.do(refusal, name, limit)))
        self.frozen = True
        return True


class LimitedKeys:
    """Keys for W1 as `inner` asks for them, within a budget."""

    def __init__(self, inner: keys.OfRun, limit: int, freeze: Freeze) -> None:
        self.inner, self.limit, self.freeze = inner, limit, freeze
        self.granted: dict[str, Located] = {}
        self.set_up, self.upload, self.query = inner.set_up, inner.upload, inner.query_with_last

    def renew(self, s: Session, epoch: int) -> None:
        """Nothing more once W1 is frozen: the keys that C has are for the samples as they are."""
        if not self.freeze.frozen:
            self.inner.renew(s, epoch)

    def ask(self, s: Session, batch: Batch) -> Located:
        """Keys at C for the rows of W1: new ones, or those that it was granted last."""
        name = self.inner.name(keys.SAMPLES.kind, batch)
        if self.freeze.frozen and name in self.granted:
            return self.granted[name]
        w1 = self.inner.request(s)
        if not self.freeze.refused(s, name, w1, self.limit):
            self.granted[name] = self.inner.issue(s, name, w1)
            s.at(CLOUD_TRAINER).do(keys.keep_last, self.granted[name])
        return self.granted[name]


class FrozenGradient:
    """dW1 as `inner` computes it, until W1 is frozen."""

    def __init__(self, inner: Any, config: Options, freeze: Freeze) -> None:
        self.inner, self.limit, self.freeze = inner, config.gradient_budget, freeze

    def update(self, s: Session, dz1: Located, batch: Batch) -> None:
        """C: W1 <- W1 - lr dW1; once W1 is frozen nobody is asked for dW1."""
        if not self.freeze.frozen:
            self.inner.update(s, dz1, batch)


class LimitedGradient(FrozenGradient):
    """The same where keys for dZ1 have a budget of their own."""

    def update(self, s: Session, dz1: Located, batch: Batch) -> None:
        """C: W1 <- W1 - lr dW1, if A issues the keys."""
        if self.freeze.frozen:
            return
        rows, name = self.inner.request(s, dz1), self.inner.scope.name(keys.BATCHES.kind, batch)
        if not self.freeze.refused(s, name, rows, self.limit):
            self.inner.issue(s, rows, batch)


def unlimited(config: Options, scope: keys.OfRun, dw1: AtOwner | UnderKeys) -> tuple[Any, Any]:
    """Keys for W1, and dW1, as they are."""
    return scope, dw1


def limited(config: Options, scope: keys.OfRun, dw1: AtOwner | UnderKeys) -> tuple[Any, Any]:
    """The same within the budgets of a run: a refusal of either freezes W1."""
    freeze = Freeze()
    wrapper = LimitedGradient if config.gradient_budget else FrozenGradient
    return LimitedKeys(scope, config.key_budget, freeze), wrapper(dw1, config, freeze)


BUDGETS = MappingProxyType({"no": unlimited, "yes": limited})


def judge(state: Authority, name: str, rows: NDArray[Any], budget: int) -> bool:
    """A: whether keys for these rows keep the rank of all that was issued under a name within the budget;
    then they count.
    """
    # The rank is taken mod a prime and may be too low by chance (1 in 2^26 a row). A cloud that chose its
    # vectors to make it so would be malicious, and would have to do it within the weight bound.
    issued = state.held.get(("issued", name)) or Echelon(rows.shape[1])
    trial = issued.copy()
    trial.add(rows)
    granted = trial.rank <= budget
    state.held["issued", name] = trial if granted else issued
    return granted


def refusal(state: Authority, name: str, budget: int) -> Refused:
    """A: what it says in place of keys."""
    return Refused(state.held["issued", name].rank, budget)


def freeze(state: Cloud, refused: Refused) -> None:
    """C: return to the last W1 that it has keys for."""
    training.take_first(state, state.held["granted"])


def check(config: Options) -> None:
    """Refuse budgets that refuse everything, or nothing."""
    if 0 < config.key_budget < config.layers[0]:
        raise ConfigError(
            f"--defence key-budget:{config.key_budget} would refuse the first h = {config.layers[0]} keys"
        )
    if config.key_budget >= config.features or config.gradient_budget >= config.batch:
        sizes = f"n = {config.features} for keys of W1, B = {config.batch} for keys of dZ1"
        raise ConfigError(
            f"--defence key-budget and gradient-budget would never refuse: ranks are at most {sizes}"
        )
    if config.gradient_budget and config.gradient is not Gradient.FE:
        raise ConfigError("--defence gradient-budget is for --gradient fe: else nobody asks keys for dZ1")
