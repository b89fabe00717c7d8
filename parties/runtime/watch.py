"""Whether a run still gets on. Its hosts answer from a thread of their own while they compute: one that does
not answer is hung (stopped, or its machine is out of reach), and one that answers and comes to no end of an
instruction is slow. A process of this machine that does not answer and spends processor time is slow as well:
a library can keep all threads of Python waiting for minutes.

The driver asks when no report has come for a while. Time in which the driver itself stood still, as after
Ctrl-Z, does not count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from parties.runtime import wire
from parties.runtime.host import HostSpec
from parties.runtime.wire import Address, Pulse
from protocols.language.errors import OUT_OF_MEMORY, Stalled

DEADLINE_SECONDS = 1800.0
LOOK_SECONDS = 2.0  # without a report, until the hosts are asked
_HUNG_SECONDS = 8.0
_HUNG_SECONDS_AWAY = 60.0  # on another machine, whose processor time nobody here sees
_ANSWER_SECONDS = 2.0  # that a host has to answer in
_LOOK_SECONDS_AT_MOST = 10.0


class Watch:
    """Looks after the hosts of a run while the driver waits for them."""

    def __init__(self, specs: Sequence[HostSpec], token: bytes) -> None:
        self.deadline = DEADLINE_SECONDS  # seconds that an instruction may take
        self.hung: set[str] = set()  # hosts that nobody need wait for
        self.cause = ""  # why processes died, where that is known
        self._killed = killed_for_memory()
        self._carried = {spec.name: carried(spec) for spec in specs}
        self._token, self._looked, self._still = token, 0.0, 0.0
        self._silent: dict[str, float] = {}  # for how many seconds
        self._spent: dict[str, float] = {}
        self._last: dict[str, Pulse] = {}

    def why(self) -> str:
        """Why processes of the run died, as an addition to a line that says so."""
        if killed_for_memory() > self._killed:
            self.cause = f"{OUT_OF_MEMORY} on this machine, where the system ends processes then"
        return f" ({self.cause})" if self.cause else ""

    def moved(self) -> None:
        """A report has come."""
        self._looked, self._still, self._silent = time.monotonic(), 0.0, {}

    def look(self, book: Mapping[str, Address], pids: Mapping[str, int]) -> list[str]:
        """Ask the hosts how they get on; returns those whose process is gone. Raises `Stalled`, which names
        parties, phase and round, where one does not answer any more, or nothing has ended for too long.

        `pids`: the process numbers of those on this machine.
        """
        told: dict[str, Pulse] = {}
        gone, silent = [], []
        for name, address in book.items():
            try:
                pulse = wire.pulse(address, self._token, _ANSWER_SECONDS)
            except ConnectionError:
                gone.append(name)
                continue
            if pulse is None and not self._computes(name, pids):
                silent.append(name)
            else:
                told[name] = pulse or self._last.get(name, Pulse(0, doing="what it computes"))
        passed = self._passed()
        self._check_silent(silent, told, pids, passed)
        self._check_still(told, passed)
        return gone

    def _passed(self) -> float:
        """Seconds since the last look."""
        now = time.monotonic()
        passed = min(now - self._looked, _LOOK_SECONDS_AT_MOST) if self._looked else LOOK_SECONDS
        self._looked = now
        return passed

    def _computes(self, name: str, pids: Mapping[str, int]) -> bool:
        """Whether a process of this machine has spent processor time since it was asked for that last."""
        spent = processor_seconds(pids[name]) if name in pids else None
        before, self._spent[name] = self._spent.get(name), spent or 0.0
        return spent is not None and before is not None and spent > before

    def _check_silent(
        self, silent: Sequence[str], told: Mapping[str, Pulse], pids: Mapping[str, int], passed: float
    ) -> None:
        self._silent = {name: self._silent.get(name, 0.0) + passed for name in silent}
        for name, seconds in self._silent.items():
            if seconds < min(_HUNG_SECONDS if name in pids else _HUNG_SECONDS_AWAY, self.deadline):
                continue
            self.hung.update(silent)
            waits = [
                f"; {self._carried[other]} {pulse.doing}" for other, pulse in told.items() if pulse.waits
            ]
            raise Stalled(
                f"{self._carried[name]}: the process hangs, it has not answered for {seconds:.0f} s"
                f"{''.join(waits[:1])}"
            )

    def _check_still(self, told: Mapping[str, Pulse], passed: float) -> None:
        done, before = ({name: pulse.done for name, pulse in pulses.items()} for pulses in (told, self._last))
        self._still = self._still + passed if done == before else 0.0
        self._last = dict(told)
        if self._still < self.deadline:
            return
        for name, pulse in told.items():
            if pulse.doing and not pulse.waits:
                raise Stalled(
                    f"{self._carried[name]}: {pulse.doing} takes longer than {self.deadline:g} s; "
                    "--deadline SECONDS allows more"
                )
        waits = [f"{self._carried[name]} {pulse.doing}" for name, pulse in told.items() if pulse.waits]
        said = "; ".join(waits[:2]) or "no process of the run has anything to do"
        raise Stalled(f"nothing has crossed for {self.deadline:g} s: {said}")


def killed_for_memory() -> int:
    """How many processes the system has ended on this machine because memory ran out."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def processor_seconds(pid: int) -> float | None:
    """Processor time that a process of this machine has spent; None where that cannot be read."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return None


def carried(spec: HostSpec) -> str:
    """The parties of a host, in words."""
    parties = spec.parties
    return parties[0] if len(parties) == 1 else f"{parties[0]} and {len(parties) - 1} more"
