"""The keys of result.json and prediction.json: what these classes declare is written, and their schema
follows from them.

`SCHEMA` is raised when a key changes its meaning or goes; new keys may come without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from parties.data.datasets import DataSpec, Split
from parties.record.transcript import Record
from protocols.language.options import derived
from scenarios.run.json_schema import Schema, object_of
from scenarios.run.options import RunOptions, RuntimeName

SCHEMA = 1
_SHARE: dict[str, float] = {"least": 0, "most": 1}
How = Literal[
    "own", "clear", "exact", "up to", "determined", "bounded", "undecided", "nothing found", "not analysed"
]


def maybe(help: str, **more: Any) -> Any:
    """A key that is missing where there is no value."""
    return derived(help, None, optional=True, **more)


def _digest(help: str) -> Any:
    return derived(help, pattern="^[0-9a-f]{64}$")


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """of the weights at the end; measured by the scorer, never by a party"""

    train: float | None = derived("on the training samples", **_SHARE)
    test: float | None = derived("on held-out samples; null without any", **_SHARE)
    baseline_test: float | None = derived("of the same training without protection or rounding", **_SHARE)
    test_by_epoch: tuple[float | None, ...] = derived("test accuracy after each epoch", **_SHARE)
    seconds_by_epoch: tuple[float, ...] = derived(
        "training seconds until the weights of each epoch were there, measuring accuracy included", least=0
    )


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """wall-clock; of a run whose training was resumed, since then"""

    setup: float = derived("processes, keys, encryption and upload", least=0)
    train: float = derived("from the end of the first step to the end of the last", least=0)
    attack: float = derived("attacks and their scoring", least=0)
    report: float = derived("digest, traffic, who learned what, training of the baseline", least=0)
    total: float = derived("everything", least=0)


@dataclass(frozen=True)
class Edge:
    """messages between two roles under one label"""

    sender: str = derived("role")
    receiver: str = derived("role")
    label: str = derived("label")
    messages: int = derived("how many", least=0)
    bytes: int = derived("of their payloads", least=0)


@dataclass(frozen=True)
class PartyTraffic:
    """messages and payload bytes of a party"""

    messages_sent: int = derived("messages that it has sent", 0, least=0)
    messages_received: int = derived("messages that it has received", 0, least=0)
    bytes_sent: int = derived("bytes that it has sent", 0, least=0)
    bytes_received: int = derived("bytes that it has received", 0, least=0)


@dataclass(frozen=True)
class Known:
    """one thing that a party knows, computed from its view"""

    party: str = derived("whose view")
    quantity: str = derived("the label under which it crossed, or samples, labels, master key")
    of: str = derived("whose it is, or of how many samples")
    how: How = derived(
        "own: drawn, held or sent by the party; clear: crossed as plain numbers; exact: determined and "
        "solved for; up to: determined but for what is named; determined: by an audit of a small instance "
        "with the same switches, not computed here; bounded: constrained; undecided: the audit could not "
        "tell; nothing found: no more than ciphertexts, as far as was tried; not analysed: nobody said what "
        "it is"
    )
    detail: str = derived("the derivation in words")
    since_round: int | None = derived("training step since when, 0 for before or in the first")
    data: dict[str, Any] = derived("numbers behind it, such as the rank after each step")


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """how close a reconstruction came; pixels in [0, 1], scored by index; failures are scored as the prior's
    guess
    """

    samples: int | None = maybe("samples attacked", least=0)
    failures: int | None = maybe("samples for which the attack found nothing", least=0)
    solved_at_step: int | None = maybe("training step whose message made it possible")
    mse: float | None = maybe("mean squared error, mean over images")
    mse_median: float | None = maybe("median over images")
    mse_iqr: tuple[float, ...] | None = maybe("first and third quartile over images")
    psnr: float | None = maybe("dB, median over images, each capped at 99")
    ssim: float | None = maybe("structural similarity, mean over at most 1000 images drawn by seed")
    exact_pixels: float | None = maybe("share of pixels that are exact after rounding", **_SHARE)
    exact_images: int | None = maybe("images of which every pixel is exact", least=0)
    labels_right: float | None = maybe("share of labels that are right", **_SHARE)
    classes_right: float | None = maybe(
        "share of labels that are right when classes are renamed to fit best", **_SHARE
    )
    relative_error: float | None = maybe("Frobenius, of a Gram matrix or a span")
    pairs: float | None = maybe("share of the inner products that were found", **_SHARE)


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """the same metrics without the secret"""

    guess: Metrics | None = maybe("the best guess from the prior alone, see zero_line")
    swapped: Metrics | None = maybe("the attack's output scored against another sample")
    projection: Metrics | None = maybe("least-norm correction of a constant image onto the equations")


@dataclass(frozen=True, kw_only=True)
class PriorRow:
    """what the adversary is assumed to know besides its view"""

    x_max: int = derived("pixels are integers in [0, x_max]")
    shape: tuple[int, ...] = derived("of an image: rows, columns and, in colour, channels", least=1)
    public_images: int = derived("images of the same distribution that it knows", least=0)
    period: int = derived("of lp's smoothness rows")
    threshold: float = derived("of lp's smoothness rows, in steps of this data set's pixels")
    known_samples: int = derived("training samples that the adversary knows", least=0)


@dataclass(frozen=True, kw_only=True)
class Message:
    """a message of the transcript"""

    seq: int = derived("its number", least=0)
    phase: str = derived("phase of the protocol")
    round: int = derived("round in the phase; -1 for none")
    label: str = derived("label")
    sender: str = derived("party")
    receiver: str = derived("party")


@dataclass(frozen=True, kw_only=True)
class FirstSuccess:
    """the first message after which an attack succeeds"""

    criterion: str = derived("what counts as success")
    attacks_run: int | None = maybe("attacks that the search took", least=0)
    any: Message | None = derived("for some sample; null for never")
    all: Message | None = derived("for every sample that it rebuilds; null for never")


@dataclass(frozen=True, kw_only=True)
class Gain:
    """by how much a reconstruction beats the prior's guess"""

    measure: Literal["mse", "share"] = derived("of the mean squared error of images, or the share of labels")
    mean: float = derived("over samples")
    interval: tuple[float, ...] = derived("95 % over samples")


@dataclass(frozen=True, kw_only=True)
class Control:
    """what the same attack scores on a run with other secrets"""

    applicable: bool = derived("whether that view holds what it needs")
    why: str = derived("why not, if not")
    metrics: Metrics = derived("scored against the samples of this run")
    gain: Gain | None = derived("against the guess; null where images were not rebuilt")


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """three rows of images: originals, the prior's guess, rebuilt; a failure is gray"""

    file: str = derived("relative to the run folder")
    columns: int = derived("images in a row", least=1)
    width: int = derived("pixels of an image and the gap beside it", least=1)
    height: int = derived("pixels of an image and the gap below it", least=1)


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """test accuracy of fresh networks that were trained on what an attack rebuilt"""

    why: str = derived("why there is none, if there is none")
    rebuilt: float | None = maybe("trained on the samples that were rebuilt, failures left out", **_SHARE)
    truth: float | None = maybe("on the true samples that were attacked", **_SHARE)
    guess: float | None = maybe(
        "on the prior's guess of these samples, see zero_line; of their class, where labels are the truth's",
        **_SHARE,
    )
    control: float | None = maybe(
        "where labels are the truth's: on public images in the place of those rebuilt, matched and labelled "
        "in the same way; none without public images",
        **_SHARE,
    )
    control_on: int | None = maybe(
        "public images of the control, as many as were rebuilt if there are", least=0
    )
    labels: Literal["attack", "view", "truth"] | None = maybe(
        "whose labels the rebuilt samples have; truth: neither attack nor view tells any, so that this "
        "is the most that the images can be worth"
    )
    trained_on: int | None = maybe("samples that were rebuilt", least=0)
    tested_on: int | None = maybe("held-out samples", least=0)
    networks: int | None = maybe("trainings of which each accuracy is the mean", least=1)


@dataclass(frozen=True, kw_only=True)
class AttackRow:
    """one attack on the joint view of some parties"""

    attack: str = derived("its name, with _")
    preset: str | None = maybe("the preset that named the attack and its coalition, if one did")
    corrupted: tuple[str, ...] = derived("whose views it was handed")
    applicable: bool = derived("whether the view holds what it needs")
    why: str = derived("why not, if not")
    failed: bool | None = maybe(
        "whether it crashed: `why` says with what and where, and run.log holds the calls that led there"
    )
    samples: int = derived("samples attacked", least=0)
    of: int | None = maybe("samples of the run", least=0)
    seconds: float = derived("in the adversary's process", least=0)
    prior: dict[str, Any] = derived("what the adversary is assumed to know besides its view", holds=PriorRow)
    metrics: dict[str, Any] = derived("how close it came", factory=dict, holds=Metrics)
    baseline: dict[str, Any] = derived("the same metrics without the secret", factory=dict, holds=Baselines)
    zero_line: str | None = maybe("what the guess of images is")
    retrained: Retrained | None = maybe("with --measure retrain: what it is worth to train on")
    gain: Gain | None = maybe("against the guess; none where neither images nor labels were rebuilt")
    notes: dict[str, Any] = derived(
        "what the attack says of itself, such as feasible, relaxed and infeasible images; NAME_per_image: a "
        "value for each "
        "image, where they are few",
        factory=dict,
    )
    figure: str | None = maybe("picture of originals and rebuilt images, relative to the run folder")
    sprite: Sprite | None = maybe("the same in one small picture, as report.html takes it in")
    first_success: FirstSuccess | None = maybe("with --when: since which message it succeeds")
    controls: dict[str, Control] | None = maybe(
        "with --controls: what it scores on runs with other secrets, swapped and ideal"
    )


@dataclass(frozen=True, kw_only=True)
class HeadBytes:
    """sizes"""

    ciphertext: int = derived("one ciphertext", least=0)
    head: int = derived("the message that carried the encrypted head", least=0)
    answer: int = derived("what the server sends for a query", least=0)


@dataclass(frozen=True, kw_only=True)
class HeadTimes:
    """mean time of a query, in batches"""

    server: float = derived("features, encrypted logits, blinding; by the clock", least=0)
    server_processor: float = derived("the same, processor time", least=0)
    authority: float = derived("decryption and decision; by the clock", least=0)
    authority_processor: float = derived("the same, processor time", least=0)


@dataclass(frozen=True, kw_only=True)
class Head:
    """what is measured of an encrypted head"""

    queries: int = derived("decisions that the consumer was told", least=0)
    refused: int = derived("of them, those whose result exceeded its bound", least=0)
    argmax_agreement: float = derived(
        "share of decisions that are those of the head in float, in the clear", **_SHARE
    )
    bytes: HeadBytes = derived("sizes")
    milliseconds: HeadTimes = derived("mean time of a query, in batches")


@dataclass(frozen=True, kw_only=True)
class Deviating:
    """a party that deviated from the protocol"""

    party: str = derived("which")
    deviation: str = derived("in what")
    steps: int = derived("local steps that were replaced", least=0)
    step: str = derived("the local step instead of the protocol's, as the transcript names it")


@dataclass(frozen=True, kw_only=True)
class Published:
    """what a paper reports for the experiment of a preset; not measured here"""

    accuracy: float = derived("on held-out samples", **_SHARE)
    minutes: float = derived("of training", least=0)
    what: str = derived("of what")
    source: str = derived("where")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What a run is measured by."""

    accuracy: Accuracy
    steps: int
    head: Head | None = None
    measured: dict[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """A process that died, and the one in its place."""

    host: str = derived("whose process it was")
    phase: str = derived("of the last round that had ended when it was missed; empty before the first")
    round: int = derived("that round, or -1 outside of rounds")
    seconds: float = derived("until the new process had all its instructions again", least=0)


@dataclass(frozen=True, kw_only=True)
class ResumedAt:
    """A run that was stopped, and gone on with."""

    phase: str = derived(
        "of the last round that every host had recorded; empty before the first; attack: training was over"
    )
    round: int = derived("that round, or -1 outside of rounds")
    message: int | None = derived(
        "number of the first message that some host had not recorded; null for none", least=0
    )
    seconds: float | None = derived(
        "until the hosts had computed again what they held after that round; null if it was stopped before",
        least=0,
    )


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """An owner that was left out, for a message that its receiver could not take."""

    party: str = derived("which")
    label: str = derived("label of the message")
    message: int = derived("its number", least=0)
    phase: str = derived("phase of the protocol")
    round: int = derived("round in the phase; -1 for none")
    why: str = derived("what its receiver says of it")
    undone: int = derived(
        "messages that others had received ahead of it, and that are not in the transcripts", least=0
    )


@dataclass(frozen=True, kw_only=True)
class Result:
    """result.json of a run"""

    schema: Literal[1] = derived("version of these keys", SCHEMA)
    scenario: str = derived("name of the scenario, with _")
    protocol: str = derived("name of the protocol, with _")
    security: dict[str, str] = derived(
        "what the run's security rests on, one line each: protocol, scheme, labels, coins"
    )
    seed: int | None = derived("null: coins from the operating system", least=0)
    config: dict[str, Any] = derived("every option with its value, and what follows from the data")
    versions: dict[str, str] = derived("of Python, keyhole and the libraries that results rest on")
    transcript_digest: str = _digest("SHA-256 over all messages in script order")
    accuracy: Accuracy = derived("of the weights at the end; measured by the scorer, never by a party")
    seconds: Seconds = derived("wall-clock")
    steps: int = derived("training steps", least=0)
    head: Head | None = maybe("what is measured of an encrypted head")
    measured: dict[str, float] | None = maybe("what a protocol measures of itself, by name, such as noise")
    published: Published | None = maybe("what a paper reports for the experiment of a preset")
    malicious: tuple[Deviating, ...] | None = maybe("parties that deviated, if any did")
    recovered: tuple[Recovered, ...] | None = maybe("processes that died and were started again, if any did")
    resumed: tuple[ResumedAt, ...] | None = maybe("where the run was resumed, each time that it was")
    dropped: tuple[LeftOut, ...] | None = maybe("owners that were left out for a bad message, if any was")
    traffic: tuple[Edge, ...] = derived("messages between two roles under one label")
    parties: dict[str, PartyTraffic] = derived("messages and payload bytes of each party")
    learned: Sequence[dict[str, Any]] = derived("who learned what", (), holds=list[Known])
    attacks: Sequence[dict[str, Any]] = derived("attacks that were asked for", (), holds=list[AttackRow])


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """prediction.json: what a querier was told, and who saw what while it asked"""

    protocol: str = derived("name of the protocol, with _")
    trained: str = derived("folder of the run that trained the network")
    dataset: str = derived("data set of the samples")
    samples: int = derived("how many were asked about", least=0)
    accuracy: float = derived("share of classes that are right", **_SHARE)
    seconds: float = derived("from the first message to the last answer", least=0)
    transcript_digest: str = _digest("SHA-256 over all messages in script order")
    traffic: tuple[Edge, ...] = derived("messages between two roles under one label")
    parties: dict[str, PartyTraffic] = derived("messages and payload bytes of each party")
    learned: Sequence[dict[str, Any]] = derived("who learned what", holds=list[Known])


@dataclass(frozen=True)
class _Run:
    """What else stands in `config`."""

    split: Split = field(default=Split.IID, metadata=RunOptions.__dataclass_fields__["split"].metadata)
    runtime: RuntimeName = field(
        default=RuntimeName.RAY, metadata=RunOptions.__dataclass_fields__["runtime"].metadata
    )
    record: Record = field(default=Record.FULL, metadata=RunOptions.__dataclass_fields__["record"].metadata)
    deviation: str = derived("what a malicious party does instead of its steps, or none", "none")
    column_samples: tuple[int, ...] | None = maybe(
        "samples, where every owner holds columns of all of them; missing where each holds its own", least=0
    )
    distinct: tuple[int, ...] | None = maybe(
        "of a table: how many different values each column takes, of levels + 1, test set included", least=1
    )


def config_schema(options: Any) -> Schema:
    """The schema of `config` for a protocol's options."""
    beside = [object_of(DataSpec), object_of(_Run)]
    found = object_of(options, {name: each for some in beside for name, each in some["properties"].items()})
    needless = {name for some in beside for name in some["properties"] if name not in some["required"]}
    return {**found, "required": [name for name in found["required"] if name not in needless]}


def result_schema(options: Sequence[Any]) -> Schema:
    """The schema of result.json, for runs of protocols with these classes of options."""
    schema = object_of(Result)
    configs = [config_schema(each) for each in options]
    schema["properties"]["config"] = {
        "anyOf": configs,
        "description": schema["properties"]["config"]["description"],
    }
    for name, keys in (
        ("security", ["coins", "protocol"]),
        ("versions", ["keyhole", "python", "ray", "torch"]),
    ):
        schema["properties"][name]["required"] = keys
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
