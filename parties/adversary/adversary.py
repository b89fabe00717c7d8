"""The adversary: a party of its own that is handed the views of the corrupted parties and nothing else."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from parties.adversary.attack import (
    Learned,
    NotApplicable,
    Prior,
    Quantity,
    Reconstruction,
    Relations,
    relations_of,
)
from parties.adversary.catalogue import find_attack
from parties.adversary.dates import Moments
from parties.record.view import View
from protocols.language.errors import OUT_OF_MEMORY, ConfigError, KeyholeError, NotRecorded, ran_out_of_memory
from protocols.language.relations import LabelErrors, Labels


@dataclass(frozen=True)
class Attacked:
    """The outcome of one attack: a reconstruction, or the reason why there is none. `labelled`: whether the
    view tells the classes of samples, if only up to their names, so that a guess may rest on them. `crash`:
    where it crashed, from the outermost call inwards; empty for one that ended as it should.
    """

    attack: str
    corrupted: tuple[str, ...]
    reconstruction: Reconstruction | None
    why: str
    seconds: float
    labelled: bool = False
    crash: tuple[str, ...] = ()


def crashed(error: Exception) -> tuple[str, tuple[str, ...]]:
    """What an attack crashed with in a line, and the calls that led there, without the text of an error of
    Python's: it may hold values.
    """
    frames = traceback.extract_tb(error.__traceback__)
    calls = tuple(f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames)
    if isinstance(error, KeyholeError):
        return " ".join(str(error).split()), (*calls, type(error).__name__)
    kind = OUT_OF_MEMORY if ran_out_of_memory(error) else type(error).__name__
    where = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{kind}{where}", (*calls, type(error).__name__)


def rebuild(
    name: str, view: View, prior: Prior, rng: np.random.Generator, listed: Relations | None = None
) -> Reconstruction:
    """Run an attack on a view; `NotApplicable` where it lacks what the attack consumes. `listed`: the
    relations of the view, where it was read before.

    Where it comes to a payload that was not kept, it is run on the view before that message, and says so.
    """
    attack, relations = find_attack(name), relations_of(view) if listed is None else listed
    if not view.has_payloads():
        raise NotApplicable("payloads not recorded")
    draws, lack = rng.bit_generator.state, None
    while True:
        rng.bit_generator.state = draws
        try:
            relations.need(*attack.CONSUMES)
            rebuilt = attack.solve(relations, prior, rng)
            break
        except NotRecorded as lacking:
            if lacking.seq < 0 or (lack is not None and lacking.seq >= lack.seq):
                raise NotApplicable(str(lacking)) from None
            lack, relations = lacking, relations_of(view.before(lacking.seq - 1))
        except NotApplicable as reason:
            raise NotApplicable(str(reason) if lack is None else f"{reason}; {lack}") from None
    if not isinstance(rebuilt, Reconstruction):
        raise ConfigError(f"{attack.NAME}: solve must return a Reconstruction, not {type(rebuilt).__name__}")
    if lack is not None:
        notes = {**rebuilt.notes, "not_recorded": f"{lack}: the view before it was attacked"}
        rebuilt = replace(rebuilt, notes=notes)
    return rebuilt


class Adversary:
    """Runs attacks on the joint view of some parties."""

    def __init__(self, views: Sequence[tuple[str, str]] = ()) -> None:
        """`views`: (path of a transcript, corrupted party) pairs; none yet, until `corrupt`."""
        self._views, self._view = views, _readable(views)
        self._relations: Relations | None = None

    def attack(self, name: str, prior: Prior, seed: int, until: int | None = None) -> Attacked:
        """Run one attack; "not applicable" is a result. `seed` drives the adversary's own draws.

        With `until`, on what the parties had seen when the message of that number arrived.
        """
        start = time.perf_counter()
        rebuilt, why, view = None, "", self._view if until is None else View(self._views, until)
        relations = self._listed() if until is None else relations_of(view)
        try:
            rebuilt = rebuild(name, view, prior, np.random.default_rng(seed), relations)
        except NotApplicable as reason:
            why = str(reason)
        seconds = time.perf_counter() - start
        labelled = rebuilt is not None and (
            rebuilt.quantity is Quantity.CLASS_IMAGES or _tells_classes(relations)
        )
        if view is not self._view:
            view.close()
        return Attacked(find_attack(name).NAME, self._view.parties, rebuilt, why, seconds, labelled)

    def attempt(self, name: str, prior: Prior, seed: int) -> Attacked:
        """The same; that the attack crashes is a result too, for a run that others hang on."""
        start = time.perf_counter()
        try:
            return self.attack(name, prior, seed)
        except Exception as error:
            why, calls = crashed(error)
            seconds = time.perf_counter() - start
            return Attacked(find_attack(name).NAME, self._view.parties, None, why, seconds, crash=calls)

    def learned(self, moments: Moments = ()) -> list[Learned]:
        """What the view gives away, since which of the rounds that `moments` tell."""
        from parties.adversary.knowledge import learned  # here: hosts of parties import this file too

        return learned(self._view, moments)

    def corrupt(self, views: Sequence[tuple[str, str]]) -> None:
        """Turn to the views of other parties; nothing of the old ones is kept."""
        if list(views) != list(self._views):
            self._view.close()
            self._views, self._view, self._relations = views, _readable(views), None

    def _listed(self) -> Relations:
        """What the view relates, listed once for all that is asked of it."""
        if self._relations is None:
            self._relations = relations_of(self._view)
        return self._relations

    def queried(self, views: Sequence[tuple[str, str]]) -> list[Learned]:
        """What the view, of a training, says of the samples in the transcript of a query."""
        from parties.adversary.knowledge import queried

        query, training = View(views), self._view
        try:
            return queried(relations_of(training), relations_of(query), training.has_payloads())
        except NotRecorded:
            return queried(relations_of(training.headers()), relations_of(query), False)
        finally:
            query.close()

    def call(self, verb: str, *args: Any) -> Any:
        """One of the verbs above by name; the same interface as the adversary in a process of its own."""
        return getattr(self, verb)(*args)

    def close(self) -> None:
        """Close the transcripts."""
        self._view.close()


def _readable(views: Sequence[tuple[str, str]]) -> View:
    """The joint view, as far as relations read it: to the first message that was found bad, where an owner
    was left out for one.
    """
    view = View(views)
    dropped = getattr(view.config, "dropped", ()) if views else ()
    return view.before(min(each.message for each in dropped) - 1) if dropped else view


def _tells_classes(relations: Relations) -> bool:
    return any(True for kind in (Labels, LabelErrors) for _ in relations.of(kind))


def attack_view(views: Sequence[tuple[str, str]], name: str, prior: Prior, seed: int) -> Attacked:
    """One attack on the joint view of some parties, from beginning to end; for processes that do nothing
    else.
    """
    adversary = Adversary(views)
    try:
        return adversary.attack(name, prior, seed)
    finally:
        adversary.close()
