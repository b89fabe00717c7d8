"""A small instance of a protocol as a function: from all that its parties put in and draw to what each of
them sees.

Pixels are reals, labels one-hot rows of reals, arithmetic is float64, schemes are ideal functionalities over
the reals (`protocols/crypto/ideal.py`). No line here belongs to a protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from parties.audit.draws import INPUT, AuditCoins, Generator, Unknown, Unknowns
from parties.audit.substitution import ideal_schemes
from parties.audit.watch import Script, Trace, Watch
from parties.party import fresh_state
from protocols.language.precision import Precision, computed_in
from protocols.language.protocol import ProtocolFile
from protocols.language.roles import Role, party_name
from protocols.language.session import Session, opened

Reals = NDArray[np.float64]
LABELS = "labels"
_INSIDE = 0.9


@dataclass(frozen=True)
class Given:
    """What a party is given: private inputs by label, and the public arrays that everybody has."""

    key: bytes
    inputs: Mapping[str, NDArray[Any]]


class Instance:
    """A protocol, its configuration, how many parties play each role, and what each of them is given."""

    def __init__(
        self,
        protocol: ProtocolFile,
        config: Any,
        counts: Mapping[Role, int],
        given: Mapping[str, Given],
        public: Mapping[str, NDArray[Any]],
        classes: int,
        x_max: float,
    ) -> None:
        self.protocol, self.config, self.counts = protocol, config, dict(counts)
        self.given, self.public, self.classes, self.x_max = given, public, classes, x_max
        named = (party_name(role, i) for role, count in counts.items() for i in range(count))
        self.parties = [name for name in named if name in given]
        self._said: tuple[tuple[str, tuple[Any, ...]], ...] | None = None  # by the script, in every run

    def run(self, moved: Mapping[str, Reals] | None = None) -> tuple[Trace, dict[str, Unknown]]:
        """Carry out the protocol, with some unknowns moved; what happened, and the unknowns that it met."""
        unknowns = Unknowns(moved)
        with computed_in(Precision.DOUBLE), ideal_schemes(unknowns) as drawn:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                states = {name: self._state(name, unknowns) for name in self.parties}
                watch = Watch(states, drawn)
                if self._said is None:
                    self._said = self._carried_out(Script(watch))
                else:
                    for verb, args in self._said:
                        getattr(watch, verb)(*args)
            finally:
                torch.set_num_threads(threads)
        watch.trace.left_out = unknowns.left_out
        return watch.trace, unknowns.found

    def _carried_out(self, script: Script) -> tuple[tuple[str, tuple[Any, ...]], ...] | None:
        """Run the script; what it said, if it says so in every run."""
        session = Session(script, self.protocol.FIGURE, self.counts, self.config)
        for revealed in self.protocol.run(session, self.config):
            opened(revealed)
        return script.closed()

    def _state(self, name: str, unknowns: Unknowns) -> Any:
        given = self.given[name]
        state = fresh_state(name, self.config, given.key)
        state.coins = AuditCoins(state.coins.key, party=name, unknowns=unknowns)
        state.rng = cast(np.random.Generator, Generator(state.rng, name, unknowns))
        for label, array in given.inputs.items():
            state.inputs[label] = self._unknown(name, label, array, unknowns)
        state.inputs |= self.public
        return state

    def _unknown(self, name: str, label: str, array: NDArray[Any], unknowns: Unknowns) -> Reals:
        hot = label == LABELS and array.ndim == 1 and array.dtype.kind in "iu"
        unit = 1.0 if hot else self.x_max
        # Inside of their range, so that they can be moved both ways.
        values = np.eye(self.classes)[array] if hot else _INSIDE * array + (1 - _INSIDE) / 2 * unit
        met = unknowns.meet(frozenset({name}), f"{name} {label}", INPUT, values, unit)
        met.flags.writeable = False
        return met
