"""The pages that the server hands out, made anew for each request."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from protocols.language.errors import ConfigError, DataError, KeyholeError, NotRecorded
from protocols.language.roles import index_of
from protocols.language.view import Kind, Row
from scenarios.page import drawing
from scenarios.page.answer import answer, named
from scenarios.run.catalogue import find_protocol
from scenarios.run.folder import RunFolder
from scenarios.run.status import incomplete
from scenarios.show.summary import headline, size
from scenarios.show.units import moment
from scenarios.viewer.entries import KINDS, MOST_KINDS, Entries, Page, Place, Wanted
from scenarios.viewer.follow import Followed, Follower, Secret
from scenarios.viewer.values import Shown, shown

_LARGEST = 64 << 20  # bytes of a payload that is opened
_WAIT = 20.0  # seconds that a page waits for what is being followed
_LISTED = 200  # names that a field offers
_FILES = ("config.json", "result.json", "status.json")

Query = Mapping[str, str]


class Pages:
    """The pages of a run; `base` is the beginning of their addresses."""

    def __init__(self, run: RunFolder, base: str) -> None:
        self._path, self._base = run.path, base
        self._run, self._stamps = run, self._stamped()
        self._entries, self._follower = Entries(run), Follower(run)
        self._one_payload = threading.Lock()  # in memory at a time
        self._environment = Environment(
            loader=PackageLoader("scenarios.viewer", "."),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {"size": size, "named": named, "said": _said_of, "moment": moment}
        self.style = "".join(
            Path(__file__).parent.joinpath(name).read_text(encoding="utf-8")
            for name in ("../page/report.css", "viewer.css")
        )

    def entries(self, query: Query) -> str:
        """A page of entries, by filter."""
        wanted, secret, wrong = _wanted(query)
        followed = None if secret is None else self._follower.known(secret)
        if secret is not None and (not isinstance(followed, Followed) or followed.seqs is None):
            wrong, secret = f"{secret.said} has not been followed", None
        elif isinstance(followed, Followed):
            wanted = replace(wanted, seqs=tuple(followed.seqs or ()))
        start = Place.of(query.get("at", ""))
        page = self._entries.page(wanted, start, "back" in query)
        choices = self._entries.choices()
        kept = {key: value for key, value in _asked(query).items() if value}
        links = {"first": self._link(kept), "last": self._link({**kept, "back": "1"})}
        if page.entries:
            ends = page.entries[0].place, page.entries[-1].place
            links |= {
                "before": self._link({**kept, "at": str(ends[0]), "back": "1"}),
                "after": self._link({**kept, "at": str(ends[1])}),
            }
        return self._page(
            "entries", "Entries", page=page, asked=_asked(query), kinds=KINDS, links=links, wrong=wrong,
            choices=choices, listed=_LISTED, secret=secret,
        )  # fmt: skip

    def entry(self, file: int, id_: int, query: Query) -> str:
        """One entry with its value."""
        entry = self._entries.entry(file, id_)
        row = entry.row
        value, wrong = self._value(entry)
        inputs = row.kind is Kind.INPUT and len(row.shape) > 0 and row.shape[0] > 0
        before = self._entries.step_before(entry) if row.kind is Kind.SENT else ""
        return self._page(
            "entry", f"{row.label}, {_said_of(row)}", entry=entry, row=row, value=value, wrong=wrong,
            followable=inputs, step=before,
        )  # fmt: skip

    def _value(self, entry: Any) -> tuple[Shown | None, str]:
        """The value of an entry as it is shown, or why it is not."""
        row: Row = entry.row
        try:
            if row.nbytes > _LARGEST:
                return None, (
                    f"A payload of {size(row.nbytes)} is not opened here; `keyhole show RUN --party "
                    f"{row.party} --label {row.label} --dump FILE.npy` writes the first of its label."
                )
            with self._one_payload:
                return shown(self._entries.value(entry), self._shape()), ""
        except NotRecorded:
            return None, "The payload was not kept: the run recorded its size and its digest alone."
        except DataError as fault:
            return None, f"The payload cannot be read: {fault}"

    def figure(self) -> str:
        """Who says what to whom, as a diagram and as a table of links."""
        crossed = self._entries.crossings()
        try:
            notes = {arrow.key: arrow.note for arrow in find_protocol(self._run.settings["protocol"]).FIGURE}
        except KeyholeError:  # of a protocol whose file is not here
            notes = {}
        links = [
            self._link({"party": each.sender, "phase": each.phase, "label": each.label, "kind": "messages"})
            for each in crossed
        ]
        return self._page(
            "figure", "Who says what to whom", crossed=crossed, diagram=drawing.diagram(crossed, notes),
            drawing=drawing, links=links, cut=len(crossed) >= MOST_KINDS,
        )  # fmt: skip

    def follow(self, query: Query) -> str:
        """Which messages depend on a row of an input; works it out when it is asked for the first time."""
        inputs = self._entries.page(Wanted(kind="input"))
        secret, wrong = None, ""
        found: Followed | str | None = None
        if query.get("of"):
            try:
                secret = _secret(query)
                found = self._follower.ask(secret, _WAIT)
            except ConfigError as fault:
                wrong = str(fault)
        busy = self._follower.busy if found is None else None
        lines, seqs = ([], None) if not isinstance(found, Followed) else (found.lines, found.seqs)
        links = [
            self._link({"label": each.label, "kind": "messages", **(_as_query(secret) if seqs else {})})
            for each in lines
        ]
        return self._page(
            "follow", "Follow a sample", inputs=inputs, listed=_listed(inputs), secret=secret, wrong=wrong,
            found=found if isinstance(found, Followed) else None,
            failed=found if isinstance(found, str) else "",
            busy=busy, links=links, asked=_asked(query),
            rest=self._link({"kind": "input"}),
            again=self._link(_as_query(secret), "follow"), all=self._link(_as_query(secret)),
        )  # fmt: skip

    def fault(self, said: str) -> str:
        """A page that says what is wrong."""
        return self._page("fault", "Not found", said=said)

    def warm(self) -> None:
        """Find out what every page needs, before the first is asked for."""
        with suppress(KeyholeError):
            self._environment.get_template("entries.html.j2")
            self._entries.choices()

    def close(self) -> None:
        """End what is under way."""
        self._follower.close()

    def _link(self, query: Mapping[str, str], page: str = "") -> str:
        return f"{self._base}/{page}" + (f"?{urlencode(query)}" if query else "")

    def _page(self, template: str, title: str, **more: Any) -> str:
        run = self._refreshed()
        said, what = "", f"{run.settings['scenario'].replace('_', '-')}: {run.path.name}"
        stopped = _incomplete(run)
        if not stopped and "asked" not in run.settings:  # which a prediction says
            try:
                said, what = answer(run.result), headline(run.result)
            except KeyholeError as fault:
                stopped = str(fault)
        return self._environment.get_template(f"{template}.html.j2").render(
            base=self._base,
            title=title,
            headline=what,
            answer=said,
            incomplete=stopped,
            here=template,
            **more,
        )

    def _shape(self) -> tuple[int, ...]:
        """Of a sample, where the configuration says it."""
        stated = self._run.settings["config"].get("shape")
        if isinstance(stated, list) and all(type(side) is int and 0 < side <= 1 << 12 for side in stated):
            return tuple(stated)
        return ()

    def _refreshed(self) -> RunFolder:
        """The run; opened again when its files have changed, as those of one that goes on do."""
        stamps = self._stamped()
        if stamps != self._stamps:
            self._run, self._stamps = RunFolder(self._path), stamps
        return self._run

    def _stamped(self) -> list[Any]:
        paths = [self._path / name for name in _FILES]
        return [path.stat().st_mtime_ns if path.is_file() else None for path in paths]


def _listed(inputs: Page) -> list[Row]:
    """Inputs by party."""
    rows = [entry.row for entry in inputs.entries]
    return sorted(rows, key=lambda row: (row.party.partition(":")[0], index_of(row.party), row.label))


def _incomplete(run: RunFolder) -> str:
    try:
        return incomplete(run)
    except KeyholeError as fault:
        return str(fault)


def _asked(query: Query) -> dict[str, str]:
    """The fields of the form as they were sent."""
    names = "party", "phase", "label", "kind", "first", "last", "of", "input", "index"
    return {name: query.get(name, "")[:256] for name in names}


def _as_query(secret: Secret | None) -> dict[str, str]:
    """A secret in an address."""
    if secret is None:
        return {}
    return {"of": secret.party, "input": secret.label, "index": str(secret.row)}


def _secret(query: Query) -> Secret:
    asked = _asked(query)
    return Secret(asked["of"], asked["input"], _number(query, "index") or 0)


def _wanted(query: Query) -> tuple[Wanted, Secret | None, str]:
    """What the form asks for, the row that is followed, and what is wrong with it."""
    asked = _asked(query)
    party = asked["party"].strip().replace("-", "_")
    wanted = Wanted(party, asked["phase"], asked["label"].strip(), asked["kind"])
    secret = None
    try:
        wanted = replace(wanted, first=_number(query, "first"), last=_number(query, "last"))
        secret = _secret(query) if asked["of"] else None
    except ConfigError as fault:
        return wanted, None, str(fault)
    return wanted, secret, ""


def _number(query: Query, name: str) -> int | None:
    text = query.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ConfigError(f"{_NUMBERS[name]} is a whole number from 0 on")
    return int(text)


_NUMBERS = {"first": "the first round", "last": "the last round", "index": "the row"}


def _said_of(row: Row) -> str:
    """An entry in words."""
    match row.kind:
        case Kind.SENT | Kind.RECEIVED | Kind.OUTPUT:
            return f"message {row.seq}"
        case Kind.INPUT:
            return f"input of {row.party}"
        case Kind.COINS:
            return f"coins of {row.party}"
    return f"told to {row.party}"
