"""The keys of compare.json: what these classes say of it, and the schema that follows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from protocols.language.options import derived
from scenarios.run.json_schema import Schema, object_of
from scenarios.run.result import How, Known, Metrics
from scenarios.study.cost import Counts

_SHARE: dict[str, float] = {"least": 0, "most": 1}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """one run of a few steps"""

    batch: int = derived("samples in a batch", least=0)
    samples: int = derived("samples uploaded", least=0)
    setup_seconds: float = derived("processes and keys", least=0)
    upload_seconds: float = derived("encryption and upload", least=0)
    step_seconds: tuple[float, ...] = derived("each step; the last one counts", least=0)


@dataclass(frozen=True, kw_only=True)
class Growing:
    """seconds, and messages and bytes from role to role, of a part that grows with the samples"""

    fixed: dict[str, float] = derived("once")
    each: dict[str, float] = derived("by sample")


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """what the parts of a run cost, measured on a few steps of the same protocol, network and images; the
    whole run is then setup + warm_up + uploads x upload.fixed + samples x upload.each + steps x step.fixed +
    rows x step.each + averages x average
    """

    measured: tuple[Measured, ...] = derived("runs of a few steps, the largest batch last")
    counts: Counts = derived("how often each part of the whole run occurs")
    setup: dict[str, float] = derived("processes, keys, first weights")
    warm_up: dict[str, float] = derived("what the first step takes longer")
    upload: Growing = derived("encryption and upload")
    step: Growing = derived("a step of one owner")
    average: dict[str, float] = derived("of one owner's copy in a round; empty without")


@dataclass(frozen=True, kw_only=True)
class ComparedAccuracy:
    """as in result.json"""

    test: float | None = derived("on held-out samples", **_SHARE)
    train: float | None = derived("on the training samples", **_SHARE)
    baseline_test: float | None = derived("of the same training without protection", **_SHARE)


@dataclass(frozen=True, kw_only=True)
class ComparedSeconds:
    """as in result.json"""

    setup: float | None = derived("processes, keys, encryption and upload", least=0)
    train: float | None = derived("training", least=0)
    attack: float | None = derived("attacks", least=0)
    report: float | None = derived("digest, traffic, knowledge, baseline", least=0)
    total: float | None = derived("everything", least=0)
    per_step: float | None = derived("a training step, on average", least=0)


@dataclass(frozen=True, kw_only=True)
class ComparedEdge:
    """messages between two roles"""

    sender: str = derived("role")
    receiver: str = derived("role")
    messages: int = derived("how many", least=0)
    bytes: int = derived("of their payloads", least=0)


@dataclass(frozen=True, kw_only=True)
class ComparedAttack:
    """one attack"""

    attack: str = derived("its name, with _")
    corrupted: tuple[str, ...] = derived("whose views it was handed")
    applicable: bool = derived("whether the view holds what it needs")
    why: str = derived("why not, if not")
    samples: int = derived("samples attacked", least=0)
    metrics: Metrics = derived("how close it came")
    guess: Metrics = derived("the same metrics of the best guess without the view")


@dataclass(frozen=True, kw_only=True)
class RebuiltSamples:
    """the strongest line of the ledger of one party alone, about samples that are not its own"""

    party: str = derived("whose view; of many owners the first")
    how: How = derived("as in result.json")
    of: str = derived("of how many samples")
    detail: str = derived("the derivation in words")
    since_round: int | None = derived("training step since when")


@dataclass(frozen=True, kw_only=True)
class Compared:
    """one run of a comparison"""

    name: str = derived("unique in the comparison, such as plain-fe lwe")
    scenario: str = derived("name of the scenario, with _")
    protocol: str = derived("name of the protocol, with _")
    scheme: str | None = derived("lwe, ddh or fhipe; null where nothing is encrypted")
    status: str = derived("whether it was run", holds=Literal["done", "incomplete", "extrapolated", "failed"])
    extrapolated: bool = derived(
        "not run: seconds, messages and bytes follow from `cost`, and there is no accuracy"
    )
    why: str = derived("why it was extrapolated or failed, or how far it came; empty if done")
    run: str | None = derived(
        "its run folder, from the comparison's folder or as given; null if there is none"
    )
    security: str = derived("scheme and level, or that there is none")
    security_lines: dict[str, str] = derived("as in result.json")
    seed: int | None = derived("null: none, or not known")
    config: dict[str, Any] | None = derived("as in result.json; null if the options were refused")
    accuracy: dict[str, float | None] = derived("as in result.json", holds=ComparedAccuracy)
    seconds: dict[str, float | None] = derived("as in result.json", holds=ComparedSeconds)
    steps: int | None = derived("training steps, which are the rounds of messages", least=0)
    messages: int | None = derived("messages sent", least=0)
    bytes: int | None = derived("their payload bytes", least=0)
    edges: list[dict[str, Any]] = derived("messages between two roles", holds=list[ComparedEdge])
    learned: tuple[Known, ...] = derived(
        "as in result.json without `data`; of an extrapolated run, what crossed in the clear, and what an "
        "audit of a small instance adds for each party alone"
    )
    rebuilt: list[dict[str, Any]] = derived(
        "what each party alone can rebuild of others' samples", holds=list[RebuiltSamples]
    )
    attacks: list[dict[str, Any]] = derived("attacks that were asked for", holds=list[ComparedAttack])
    ignored: list[str] = derived("given options that mean nothing to this protocol")
    cost: dict[str, Any] | None = derived("of an extrapolated run", holds=CostRow)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """compare.json of a comparison"""

    schema: Literal[1] = derived("version of these keys")
    seed_drawn: bool = derived("whether the seed was drawn for the comparison, because none was given")
    rows: tuple[Compared, ...] = derived("the runs")
    differences: dict[str, dict[str, Any]] = derived(
        "options in which the runs differ, with the value of each run by its name"
    )
    notes: tuple[str, ...] = derived("what a reader has to know besides, in words")


def compare_schema() -> Schema:
    """The schema of compare.json."""
    schema = object_of(Comparison)
    known = schema["properties"]["rows"]["items"]["properties"]["learned"]["items"]
    known["required"] = [each.name for each in fields(Known) if each.name != "data"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
