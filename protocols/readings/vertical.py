"""What views of linear training on columns say: gradients or errors under keys, weights, and who opens all.

Samples are the rows of all columns together: position j is row j of every owner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from protocols.crypto import ipfe_ddh, qfe, shared
from protocols.crypto.coins import Coins
from protocols.crypto.groups import workers
from protocols.language.message import encode
from protocols.language.relations import (
    Array,
    Asked,
    ClassSums,
    Equations,
    Gradients,
    Instance,
    Keys,
    KnownMap,
    LabelErrors,
    Labels,
    Map,
    MasterKey,
    Opaque,
    Own,
    Plain,
    Positions,
    Relation,
    Samples,
    Steps,
    Update,
)
from protocols.language.roles import CLOUD_TRAINER, DATA_OWNER, KEY_AUTHORITY, role_of
from protocols.language.view import Kind, Row, View
from protocols.readings.samples import Kept, in_rounds, owned, payload

_SECONDS = 0.01  # about what it takes to open an entry of a sample with a key for it


@dataclass(frozen=True)
class Layout:
    """How a run encrypts, as its protocol says.

    `quadratic`: whether gradients are opened, and not errors. `params`: of the first instance. `starts`:
    where owners' slices begin, for so many rows, with or without labels. `widths`: columns of each.
    `per_upload`: batches of an upload. `length(batch)`: by what a gradient moves W.
    """

    quadratic: bool
    params: Any
    starts: Callable[[int, bool], list[int]]
    widths: list[int]
    per_upload: int
    length: Callable[[int], float]


def relations(view: View, how: Layout) -> Iterator[Relation]:
    """Everything."""
    yield Plain(labels=("w", "z", "refused", "classes"))
    yield Plain(labels=("shared",), quantity="coins of all ciphertexts")
    yield Opaque(
        labels=("mpk", "mpk_batch", "ct", "ct_batch", "sk", "sk_z"),
        why="ciphertexts and keys, without each other",
    )
    if KEY_AUTHORITY.value in view.parties:
        yield Own("master key", KEY_AUTHORITY.value, "drawn by the authority itself")
    yield from owned("weights", CLOUD_TRAINER.value, view, "it trains the model itself")
    yield from _own(view)
    yield from _maps(view, how)
    if any(row.phase == "predict" for row in view.rows("ct", Kind.RECEIVED)):
        said = "every key of the training works on them; how many are independent is not computed here"
        count = sum(row.shape[0] for row in view.rows("classes"))
        yield Asked(count, said, labels=("ct",))
    reader = _Reader(view, how)
    yield from reader.masters()
    if how.quadratic:
        yield from reader.gradients()
        yield from _class_sums(view, how)
    else:
        yield from reader.errors()
        yield from reader.rows()


def clear(view: View) -> Iterator[Relation]:
    """What crosses in the clear: columns of every upload, and labels of the first owner."""
    yield from _own(view)
    yield from owned("weights", CLOUD_TRAINER.value, view, "it trains the model itself")
    yield Plain(labels=("classes",))
    uploads: dict[int, list[Row]] = {}
    for row in view.rows("x", Kind.RECEIVED):
        if row.phase == "predict":
            yield Plain(labels=("x",))
        else:
            uploads.setdefault(row.round, []).append(row)
    first = 0
    for _, parts in sorted(uploads.items()):
        parts.sort(key=lambda row: int(row.sender.partition(":")[2]))
        index = first + np.arange(parts[0].shape[0])
        first += parts[0].shape[0]
        if len(parts) == len(view.config.counts):
            yield Samples(index, partial(_joined, view, parts), labels=("x",))
    first = 0
    for row in view.rows("labels", Kind.RECEIVED):
        yield Labels(first + np.arange(row.shape[0]), payload(view, row), labels=("labels",))
        first += row.shape[0]


def _joined(view: View, rows: list[Row]) -> Array:
    return np.concatenate([view.value(row) for row in rows], axis=1)


def of_batch(config: Any, number: int) -> Positions:
    """Where the samples of a batch stand."""
    return np.arange(number * config.batch, min((number + 1) * config.batch, config.counts[0]))


def _own(view: View) -> Iterator[Relation]:
    """Samples of which the view has every column, and labels of the first owner; not a querier's."""
    if "predict" in view.phases():
        return
    parts = [row for row in view.rows("images", Kind.INPUT) if role_of(row.party) is DATA_OWNER]
    index = np.arange(view.config.counts[0])
    if len(parts) == len(view.config.counts):
        order = sorted(parts, key=lambda row: int(row.party.partition(":")[2]))
        yield Samples(index, partial(_joined, view, order), own=True)
    for row in view.rows("labels", Kind.INPUT):
        yield Labels(index, payload(view, row), own=True)


def _maps(view: View, how: Layout) -> Iterator[Relation]:
    """W of every step, as it stands in requests for keys, and how it moved."""
    config, asked = view.config, in_rounds(view, "w")
    told = in_rounds(view, "z")
    for step, row in asked.items():
        read = _scaled(view, row, 1 / config.weight_scale)
        mine = row.sender in view.parties
        yield KnownMap(Map("w1", -1, step), read, 0.5 / config.weight_scale, mine, labels=("w",), since=step)
    if not asked:
        return
    count = max(asked) + 1
    where = tuple(of_batch(config, step % config.batches) for step in range(count))
    known = next((step for step in range(count) if step not in told), count)
    steps = Steps(where, known, lambda u: np.asarray(view.value(told[u]), np.float64)[:, : len(where[u])].T)
    for step in range(1, count):
        terms = np.zeros(count)
        terms[step - 1] = how.length((step - 1) % config.batches)
        before, after = Map("w1", -1, step - 1), Map("w1", -1, step)
        yield Update(before, after, terms, steps, labels=("w", "z") if told else ("w",), since=step)


def _class_sums(view: View, how: Layout) -> Iterator[Relation]:
    """T^T X of the batch of each step, by how W moved between two requests: g = X^T X w - c T^T X."""
    config, asked = view.config, in_rounds(view, "w")
    for step in sorted(asked.keys() & {step - 1 for step in asked}):
        number = step % config.batches
        index, scale = of_batch(config, number), how.length(number) * config.label_weight * config.x_max
        pair = asked[step], asked[step + 1]
        read = partial(_moved, view, *pair, scale * config.weight_scale)
        # W is rounded at both ends, but for the zeros of the start; no entry of X^T X w is larger.
        rounding = (0.5 if step == 0 else 1.0) / (scale * config.weight_scale)
        largest = len(index) * config.x_max / config.label_weight
        noise = partial(_largest, view, pair[0], rounding, largest)
        yield ClassSums(
            index, read, noise, np.array(config.heads), config.classes, labels=("w",), since=step + 1
        )


def _moved(view: View, before: Row, after: Row, scale: float) -> Array:
    moved = np.asarray(view.value(after), np.float64) - np.asarray(view.value(before), np.float64)
    return moved / scale


def _largest(view: View, row: Row, rounding: float, largest: float) -> Array:
    found: Array = rounding + largest * np.abs(np.asarray(view.value(row), np.float64)).sum(axis=1)
    return found


def _scaled(view: View, row: Row, factor: float) -> Callable[[], Array]:
    return lambda: np.asarray(view.value(row), np.float64) * factor


class _Reader:
    """Reads the ciphertexts and keys of a view."""

    def __init__(self, view: View, how: Layout) -> None:
        self._view, self._how, self._config = view, how, view.config
        self._uploads = self._of_owners("ct")
        self._rows = self._of_owners("ct_batch")
        self._keys = in_rounds(view, "sk", Kind.RECEIVED)
        self._asked = in_rounds(view, "w")
        self._public = Kept(self._mpk, 2)
        self._whole = Kept(self._ciphertexts, 2)
        self._loaded = Kept(self._load, 2)
        self._errors = Kept(self._opened_errors, 64)

    def _of_owners(self, label: str) -> list[list[Row]]:
        """The messages of each upload that came from all owners."""
        found: dict[int, list[Row]] = {}
        for row in self._view.rows(label, Kind.RECEIVED):
            if row.phase == "upload":
                found.setdefault(row.round, []).append(row)
        order = (
            sorted(rows, key=lambda r: int(r.sender.partition(":")[2])) for _, rows in sorted(found.items())
        )
        return [rows for rows in order if len(rows) == len(self._config.counts)]

    def _mpk(self, label: str) -> Any:
        return self._view.value(next(iter(self._view.rows(label))))

    @property
    def _batches(self) -> range:
        """Batches whose ciphertexts are whole."""
        return range(min(self._config.batches, len(self._uploads) * self._how.per_upload))

    def _ciphertexts(self, number: int) -> Any:
        """What encrypts a batch: one ciphertext, or one for each sample."""
        upload, place = divmod(number, self._how.per_upload)
        scheme = qfe if self._how.quadratic else ipfe_ddh
        each = 1 if self._how.quadratic else self._config.batch
        parts = [self._view.value(row) for row in self._uploads[upload]]
        here = [scheme.rows(part, place * each, (place + 1) * each) for part in parts]
        return scheme.join(self._public("mpk"), here)

    def _load(self, number: int) -> Any:
        scheme = qfe if self._how.quadratic else ipfe_ddh
        return scheme.load(self._public("mpk"), self._whole(number))

    def _weights(self, steps: list[int]) -> Array:
        return np.concatenate([np.asarray(self._view.value(self._asked[step]), np.int64) for step in steps])

    # --- quadratic

    def gradients(self) -> Iterator[Relation]:
        """The gradients of every batch at the weights of every step."""
        steps, config = sorted(self._keys.keys() & self._asked.keys()), self._config
        if not steps:
            return
        heads, times = np.tile(config.heads, len(steps)), np.repeat(steps, len(config.heads))
        for number in self._batches:
            yield Gradients(
                of_batch(config, number),
                lambda: self._weights(steps),
                partial(self._values, number),
                heads,
                times,
                config.label_weight * config.x_max,
                labels=("ct", "sk", "w"),
                since=steps[0],
            )
            if steps[0] == 0:
                yield ClassSums(
                    of_batch(config, number),
                    partial(self._contrasts, number),
                    np.zeros(len(config.heads)),
                    np.array(config.heads),
                    config.classes,
                    labels=("ct", "sk", "w"),
                )

    def _contrasts(self, number: int) -> Array:
        """T^T X (heads, n) of a batch, as the weights of the first step are zero: g = -scale T^T X."""
        found: Array = -self._values(number, np.zeros(1, np.int64)) // (
            self._config.label_weight * self._config.x_max
        )
        return found

    def _values(self, number: int, steps: Array) -> Array:
        self._whole(number)  # read, whether its gradients are known or not
        return np.concatenate([self._gradient(number, step) for step in steps.tolist()])

    def _gradient(self, number: int, step: int) -> Array:
        """The gradient (heads, n) of a batch by the keys of a step."""
        upload, place = divmod(number, self._how.per_upload)
        sk, mpk, parts = self._view.value(self._keys[step]), self._public("mpk"), self._uploads[upload]
        what = ("gradient", place, self._keys[step].sha256, *(row.sha256 for row in parts))
        opened = lambda: qfe.decrypt(mpk, sk, self._loaded(number), workers.available())[0]  # noqa: E731
        found: Array = self._view.once(what, opened)
        return found

    # --- fedv

    def _opened_errors(self, step: int, number: int) -> Array:
        """z (m, heads) of a batch by the keys of a step."""
        sk, size = self._view.value(self._keys[step]), len(of_batch(self._config, number))
        found: Array = ipfe_ddh.decrypt(self._public("mpk"), sk, self._loaded(number))[:size]
        return found

    def _targets(self, number: int, first: int) -> Array:
        """The targets (m, heads), +-1, as the weights of the first step are zero: z = -scale t."""
        found: Array = -self._errors(first, number) // (self._config.label_weight * self._config.x_max)
        return found

    def errors(self) -> Iterator[Relation]:
        """Each sample's error: with the keys of the cloud, or in requests for keys of z."""
        config, steps = self._config, sorted(self._keys.keys() & self._asked.keys())
        with_keys = bool(steps and steps[0] == 0 and self._uploads)
        if with_keys:
            yield from self._with_keys(steps)
        for step, row in in_rounds(self._view, "z").items():
            index = of_batch(config, step % config.batches)
            read = _of_request(self._view, row, len(index))
            if step == 0 and not with_keys:
                scale = config.label_weight * config.x_max
                yield from _labels(config, index, partial(_of_zero, read, scale), ("w", "z"), 0)
            elif not with_keys:
                yield LabelErrors(index, read, config.classes, labels=("z",), since=step)

    def _with_keys(self, steps: list[int]) -> Iterator[Relation]:
        config = self._config
        for number in self._batches:
            index = of_batch(config, number)
            yield from _labels(config, index, partial(self._targets, number, 0), ("ct", "sk", "w"), 0)
        index = np.concatenate([of_batch(config, number) for number in self._batches])
        later = [step for step in steps if step > 0]
        if later:
            yield Equations(
                index,
                lambda: self._weights(later),
                lambda: self._scores(later),
                labels=("ct", "sk", "w"),
                since=later[-1],
                once=False,
            )

    def _scores(self, steps: list[int]) -> Array:
        """X w^T (N, r): errors without targets."""
        scale = self._config.label_weight * self._config.x_max
        rows = [
            np.hstack([self._opened_errors(step, number) for step in steps])
            + scale * np.tile(self._targets(number, 0), len(steps))
            for number in self._batches
        ]
        return np.concatenate(rows)

    def rows(self) -> Iterator[Relation]:
        """Keys for errors on the rows of X_B^T."""
        config, keys = self._config, in_rounds(self._view, "sk_z", Kind.RECEIVED)
        if not self._rows or not any(True for _ in self._view.rows("mpk_batch")):
            return
        count = min(config.batches, len(self._rows) * self._how.per_upload)

        def messages() -> Iterator[Keys]:
            for step, row in keys.items():
                sk = self._view.value(row)
                yield Keys(step, sk, np.asarray(sk.y, np.int64))

        yield Instance(
            tuple(of_batch(config, number) for number in range(count)), messages, self._sums, ipfe_ddh,
            lambda: self._public("mpk_batch"), rows=_some_keys,
            open=self._open_rows, columns=config.features, across=True,
            labels=("mpk_batch", "ct_batch", "sk_z"),
        )  # fmt: skip

    def _parts(self, number: int) -> Iterator[Any]:
        upload, place = divmod(number, self._how.per_upload)
        for row, n in zip(self._rows[upload], self._how.widths, strict=True):
            yield ipfe_ddh.rows(self._view.value(row), place * n, (place + 1) * n)

    def _sums(self, sk: Any, block: int, which: Positions | None = None) -> Array:
        del which  # a vector runs over all samples of a block
        mpk = self._public("mpk_batch")
        return np.concatenate([ipfe_ddh.decrypt(mpk, sk, part) for part in self._parts(block)])

    def _open_rows(self, msk: Any, block: int, which: Positions | None = None) -> Array:
        mpk = self._public("mpk_batch")
        x = np.concatenate([ipfe_ddh.open_with_master_key(mpk, msk, part) for part in self._parts(block)]).T
        return x[: len(of_batch(self._config, block))] if which is None else x[which]

    # --- who opens everything

    def masters(self) -> Iterator[Relation]:
        """The master key, by the authority's coins, or the coins that owners share, beside ciphertexts."""
        if not self._uploads:
            return
        told = next(iter(self._view.rows("shared")), None)
        if told is not None:
            secret, how = payload(self._view, told), "the coins that all owners share"
            yield from self._opening(secret, how, ("shared", "mpk", "ct"))
        elif KEY_AUTHORITY.value in self._view.parties:
            how = "the authority's coins, put through Setup again"
            yield from self._opening(self._replayed, how, ("mpk", "ct"))

    def _opening(self, secret: Callable[[], Any], how: str, labels: tuple[str, ...]) -> Iterator[Relation]:
        config, blocks = self._config, tuple(of_batch(self._config, number) for number in self._batches)

        def opened(msk: Any, block: int, which: Positions | None = None) -> Array:
            x = self._samples(msk, block, np.arange(len(blocks[block])) if which is None else which)
            return x[:, : config.features]

        instance = Instance(
            blocks, lambda: iter(()), _no_products, qfe if self._how.quadratic else ipfe_ddh,
            lambda: self._public("mpk"), rows=lambda sk, which: sk, open=opened, columns=config.features,
            hides=True, seconds=_SECONDS, labels=labels,
        )  # fmt: skip
        yield MasterKey(instance, secret, how, labels=labels)
        for number in self._batches:
            read = partial(self._opened_targets, secret, number)
            yield from _labels(config, blocks[number], read, labels, 0, how)

    def _replayed(self) -> Any:
        """The master key by Setup, the first use of the authority's coins; None if it is another."""
        scheme = qfe if self._how.quadratic else ipfe_ddh
        rows = (row for row in self._view.rows("coins", Kind.COINS) if row.party == KEY_AUTHORITY.value)
        mpk, msk = scheme.setup(self._how.params, Coins(bytes(self._view.value(next(rows)))))
        return msk if np.array_equal(encode(mpk), encode(self._public("mpk"))) else None

    def _opened_targets(self, secret: Callable[[], Any], number: int) -> Array:
        size, config = len(of_batch(self._config, number)), self._config
        whole = self._samples(secret(), number, np.arange(size))
        found: Array = whole[:, config.features :] // config.x_max
        return found

    def _samples(self, secret: Any, number: int, which: Positions) -> Array:
        """Samples with their targets (m, n + heads)."""
        if self._how.quadratic:
            return self._of_batch(secret, number, which)
        ct, mpk = self._ciphertexts(number), self._public("mpk")
        if isinstance(secret, shared.Shared):
            upload, place = divmod(number, self._how.per_upload)
            whole = ipfe_ddh.join(mpk, [self._view.value(row) for row in self._uploads[upload]])
            x = ipfe_ddh.open_with_coins(mpk, shared.coins_of(secret, upload), whole)
            x = x[place * self._config.batch :][which]
        else:
            x = ipfe_ddh.open_with_master_key(mpk, secret, ct)[which]
        first = self._how.widths[0]
        heads = len(self._config.heads)
        return np.hstack([x[:, :first], x[:, first + heads :], x[:, first : first + heads]])

    def _of_batch(self, secret: Any, number: int, which: Positions) -> Array:
        config, starts = self._config, self._how.starts(self._config.batch, True)
        ct, mpk, rows = self._ciphertexts(number), self._public("mpk"), config.batch
        places = [
            start + which[:, None] * n + np.arange(n)
            for start, n in zip(starts, self._how.widths, strict=False)
        ]
        labels = starts[0] + rows * self._how.widths[0] + np.arange(len(config.heads)) * rows + which[:, None]
        wanted = np.hstack([*places, labels])
        if isinstance(secret, shared.Shared):
            upload, place = divmod(number, self._how.per_upload)
            count = self._uploads[upload][0].shape[0]
            masks = qfe.masks(shared.coins_of(secret, upload).stream("qfe encrypt"), count)
            mine = qfe.Masks(masks.gamma[place : place + 1], masks.w[place : place + 1])
            found: Array = qfe.open_with_masks(mpk, mine, ct)[0][wanted]
            return found
        return self._with_keys_of_entries(secret, ct, wanted)

    def _with_keys_of_entries(self, msk: Any, ct: Any, wanted: Positions) -> Array:
        """Entries x (m, n + heads): who makes keys asks for x_i y_j, with an entry y_j that is not zero."""
        mpk, right = self._public("mpk"), self._how.params.bounds.right
        flat = wanted.ravel()
        for column in range(right):
            forms = qfe.Forms(
                np.ones((len(flat), 1, 1), np.int64), flat.reshape(-1, 1, 1), np.array([[column]])
            )
            found = qfe.decrypt(mpk, qfe.key_derive(msk, forms), ct, workers.available())[0, :, 0]
            largest = self._square_root(msk, ct, column)
            if largest:
                return (found // largest).reshape(wanted.shape)
        return np.zeros(wanted.shape, np.int64)

    def _square_root(self, msk: Any, ct: Any, column: int) -> int:
        """y_j of the right side, as the entry of the left side at the same pixel is the same."""
        place = _left_of(self._how.starts, self._config.batch, column)
        forms = qfe.Forms(np.ones((1, 1, 1), np.int64), np.array([[[place]]]), np.array([[column]]))
        value = int(qfe.decrypt(self._public("mpk"), qfe.key_derive(msk, forms), ct)[0, 0, 0])
        return math.isqrt(value)


def _left_of(starts: Callable[[int, bool], list[int]], rows: int, column: int) -> int:
    """Where an entry of the right side stands on the left one."""
    left, right = starts(rows, True), starts(rows, False)
    owner = int(np.searchsorted(right, column, side="right")) - 1
    return left[owner] + column - right[owner]


def _labels(
    config: Any,
    index: Positions,
    targets: Callable[[], Array],
    labels: tuple[str, ...],
    since: int,
    how: str = "",
) -> Iterator[Relation]:
    """Labels of samples by their targets: all, where there is a head for each class; else whether they are
    of the one class.
    """
    how = how or "the weights of the first step are zero, and z is the label"
    if config.target < 0:
        yield Labels(index, lambda: targets().argmax(axis=1), labels=labels, since=since, how=how)
    elif config.classes == 2:
        of = lambda: np.where(targets()[:, 0] > 0, config.target, 1 - config.target)  # noqa: E731
        yield Labels(index, of, labels=labels, since=since, how=how)
    else:
        yield LabelErrors(index, targets, config.classes, labels=labels, since=since)


def _some_keys(sk: Any, which: Positions) -> Any:
    return replace(sk, y=sk.y[which], sk=sk.sk[which])


def _of_zero(errors: Callable[[], Array], scale: int) -> Array:
    """Targets (m, heads), +-1, of errors at weights of zero."""
    found: Array = -errors() // scale
    return found


def _of_request(view: View, row: Row, size: int) -> Callable[[], Array]:
    return lambda: np.asarray(view.value(row), np.int64)[:, :size].T


def _no_products(key: Any, block: int, which: Positions | None) -> Array:
    raise NotImplementedError("no keys, no products")
