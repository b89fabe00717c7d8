"""Where the parties of a run live: the runtime that was asked for, and what each host is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from parties.adversary.adversary import Adversary
from parties.record.kept import Kept
from parties.registry import source_of
from parties.runtime.checkpoint import folder_of
from parties.runtime.host import HostSpec
from parties.runtime.inline import InlineRuntime
from parties.runtime.local import LocalAdversary, LocalRuntime
from protocols.crypto.coins import derive
from protocols.language.errors import HostLost
from protocols.language.protocol import ProtocolFile
from protocols.language.roles import DATA_OWNER, QUERIER, Role
from protocols.network.public_base import base_inputs
from scenarios.run.attacks import AdversaryHandle, MakeAdversary
from scenarios.run.experiment import Experiment
from scenarios.run.folder import RunFolder
from scenarios.run.options import RuntimeName


class Asked(Protocol):
    """A run, or a query of one."""

    @property
    def protocol(self) -> ProtocolFile: ...
    @property
    def config(self) -> Any: ...
    @property
    def kept(self) -> Kept: ...


MakeHosts = Callable[[list[HostSpec], Callable[[str, int], None]], Any]


@dataclass(frozen=True)
class Runtimes:
    """How this run makes hosts and adversaries."""

    hosts: MakeHosts
    adversary: MakeAdversary


@contextmanager
def runtime_named(name: str, address: str | None) -> Iterator[Runtimes]:
    """The runtime that was asked for; a Ray session on this machine ends with the block."""
    match RuntimeName(name):
        case RuntimeName.INLINE:
            yield Runtimes(InlineRuntime, Adversary)
        case RuntimeName.LOCAL:
            with _processes(LocalRuntime, LocalAdversary) as runtimes:
                yield runtimes
        case RuntimeName.RAY:
            from parties.runtime import on_ray, ray_session

            with ray_session.cluster(address), _processes(on_ray.RayRuntime, on_ray.RayAdversary) as runtimes:
                yield runtimes


@contextmanager
def _processes(hosts: MakeHosts, adversary: Callable[[], AdversaryHandle]) -> Iterator[Runtimes]:
    """Hosts in processes of their own, and one adversary in its own, which starts while they set up."""
    process = _AdversaryProcess(adversary)

    def started(specs: list[HostSpec], progress: Callable[[str, int], None]) -> Any:
        runtime = hosts(specs, progress)
        process.start()
        return runtime

    try:
        yield Runtimes(started, process.turned_to)
    finally:
        process.end()


class _AdversaryProcess:
    """A process that is handed one view after the other; a new one, where it died."""

    def __init__(self, make: Callable[[], AdversaryHandle]) -> None:
        self._make = make
        self._handle: AdversaryHandle | None = None

    def start(self) -> AdversaryHandle:
        """The process, started if there is none."""
        self._handle = self._handle or self._make()
        return self._handle

    def turned_to(self, views: Sequence[tuple[str, str]]) -> AdversaryHandle:
        """The adversary with these views, of which closing it keeps nothing."""
        self.start().call("corrupt", views)
        return self

    def call(self, verb: str, *args: Any) -> Any:
        """Have a verb carried out there."""
        try:
            return self.start().call(verb, *args)
        except HostLost:
            self.end()
            raise

    def close(self) -> None:
        """Forget the views."""
        if self._handle is not None:
            self.call("corrupt", ())

    def end(self) -> None:
        """End the process."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None


def host_specs(experiment: Experiment, run: RunFolder, processors: int | None = None) -> list[HostSpec]:
    """One host a role; many owners share as many hosts as there are processors."""
    key, specs = experiment.run_key, []
    for role in experiment.roles:
        names = experiment.players(role)
        hosts = min(len(names), processors or os.cpu_count() or 1)
        for h in range(hosts):
            # Owners take turns in order, so that those of a round are spread over hosts.
            here, name = tuple(names[h::hosts]), role.value if hosts == 1 else f"{role.value}.{h}"
            specs.append(_of_run(experiment, run, role, host_spec(run, role, name, here, key, experiment)))
    return specs


def host_spec(
    run: RunFolder, role: Role, name: str, here: tuple[str, ...], key: bytes, asked: Asked
) -> HostSpec:
    """What every host is told: who lives there, with which coins, and where it writes."""
    return HostSpec(
        name=name,
        role=role,
        parties=here,
        keys=tuple(derive(key, party) for party in here),
        protocol=asked.protocol.NAME,
        file=source_of(asked.protocol),
        config=asked.config,
        transcript=str((run.path / "transcripts" / f"{name}.sqlite").resolve()),
        log=str((run.path / "run.log").resolve()),
        kept=asked.kept,
    )


def _of_run(experiment: Experiment, run: RunFolder, role: Role, spec: HostSpec) -> HostSpec:
    """What the hosts of a run are told besides: the data of those who hold some, and what is public."""
    owner, querier, base = role is DATA_OWNER, role is QUERIER, experiment.base
    return replace(
        spec,
        data=experiment.spec if owner or querier else None,
        owners=experiment.counts[role] if owner else 0,
        split=experiment.split,
        state=str((run.path / "state").resolve()),
        checkpoints=str(folder_of(run.path.resolve())),
        asking=querier,
        bound=experiment.bound,
        limit=experiment.config.queries if querier else None,
        public=() if base is None else base_inputs(base),  # everybody knows it
    )
