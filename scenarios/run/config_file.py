"""Configuration files: a run as TOML or JSON, and a grid of runs.

    scenario = "plain-fe"        # the name of a scenario, or the path of a protocol's file
    dataset = "digits"           # an option of `keyhole run SCENARIO --help`, with `-` or `_`
    lr = 0.05
    attack = ["stack", "master-key"]

    [sweep]                      # every combination of these is a run
    hidden = [16, 32]
    seed = [0, 1, 2]

A run writes its own as `config.toml`, and what it was asked for into `config.json`; both are read again.
"""

from __future__ import annotations

import difflib
import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parties.data.datasets import DataSpec
from protocols.language.errors import ConfigError, DataError
from protocols.language.options import Declared, as_plain, flag
from scenarios.run.catalogue import asked_for
from scenarios.run.experiment import Scenario, kept
from scenarios.run.options import converted

SUFFIXES = (".toml", ".json")
_LARGEST = 1 << 26  # bytes
_MOST = 1000  # runs of a grid


@dataclass(frozen=True)
class Plan:
    """What a file asks for: a scenario as it is named there, its options by their own names, and those that
    are swept, each with its values.
    """

    named: str
    scenario: Scenario
    options: Mapping[str, Any]
    sweep: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def runs(self) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """(name, swept values, all options) of every run of the grid, the last name varying fastest."""
        for values in itertools.product(*self.sweep.values()):
            swept = dict(zip(self.sweep, values, strict=True))
            yield "_".join(map(_told, swept.items())), swept, {**self.options, **swept}

    def with_given(self, given: Mapping[str, Any]) -> Plan:
        """The same with options of the command line, which stand above those of the file."""
        above = _by_own_names(self.scenario, given)
        swept = sorted(name for name in self.sweep if _own_name(self.scenario, name) in above)
        if swept:
            raise ConfigError(
                f"{flag(swept[0])}: the file sweeps it; take it out of [sweep], or give no other"
            )
        return Plan(self.named, self.scenario, {**self.options, **above}, self.sweep)

    def as_plain(self) -> dict[str, Any]:
        """For the settings of a grid, from which it goes on."""
        sweep = {name: as_plain(list(values)) for name, values in self.sweep.items()}
        options = kept(self.options)
        if "dataset" in options:  # it may go on from another folder
            folder = options.get("data_dir")
            options["dataset"] = DataSpec(options["dataset"], folder).resolved().name
        return {"scenario": self.named, "options": options, "sweep": sweep}


def is_config(name: str) -> bool:
    """Whether a name is that of a configuration file."""
    return name.endswith(SUFFIXES)


def read_config(path: Path) -> Plan:
    """What a file asks for; `ConfigError` or `DataError` with one line that names the file and the key."""
    content = _content(path)
    if "protocol" in content and "data" in content:  # config.json of a run
        if not isinstance(content.get("options"), dict):
            raise DataError(
                f"{path}: of a version that did not note what was asked for; write a file of options"
            )
        source = content.get("file") or {}
        named = source.get("path") or content.get("scenario")
        content = {"scenario": named, **content["options"]}
    return plan_of(content, path)


def plan_of(content: Mapping[str, Any], path: Path) -> Plan:
    """A plan from plain data, as `Plan.as_plain` and files have it."""
    given = {key: value for key, value in content.items() if key not in ("scenario", "sweep", "options")}
    more, swept, named = content.get("options", {}), content.get("sweep", {}), content.get("scenario")
    if not isinstance(named, str):
        near = difflib.get_close_matches("scenario", map(str, given), 1)
        hint = f"; {near[0]!r} is no key" if near else ""
        raise ConfigError(f'{path}: names no scenario, such as scenario = "plain-fe"{hint}')
    if not isinstance(more, dict) or not isinstance(swept, dict):
        raise ConfigError(f"{path}: [options] and [sweep] are tables of options")
    scenario = asked_for(named)
    options = _read(path, scenario, {**given, **more})
    lists = {name: value for name, value in swept.items() if not isinstance(value, list) or not value}
    if lists:
        raise ConfigError(f"{path}: [sweep] {next(iter(lists))}: expected a list of values, such as [16, 32]")
    sweep: dict[str, tuple[Any, ...]] = {}
    for key, values in swept.items():
        read = [next(iter(_read(path, scenario, {key: value}).values()), ()) for value in values]
        if len(set(map(str, read))) < len(values):
            raise ConfigError(f"{path}: [sweep] {key}: a value stands there twice")
        sweep[key.replace("-", "_")] = tuple(read)
    own = [_own_name(scenario, name) for name in sweep]
    if len(set(own)) < len(own):
        raise ConfigError(f"{path}: [sweep] {', '.join(sweep)}: two names of one option; give it once")
    both = sorted(name for name in sweep if _own_name(scenario, name) in options)
    if both:
        raise ConfigError(f"{path}: {both[0]} stands in [sweep] and beside it: give it once")
    named = str(Path(named).resolve()) if named.endswith(".py") else named
    plan = Plan(named, scenario, options, sweep)
    count = 1
    for values in sweep.values():
        count *= len(values)
    if count > _MOST:
        raise ConfigError(f"{path}: [sweep] asks for {count} runs; at most {_MOST} go into one grid")
    return plan


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        what = "not a file" if path.exists() else "no such file"
        raise DataError(f"{path}: {what}; expected a configuration")
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST).decode("utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError, OSError) as cause:
        said = (
            str(cause).splitlines()[0] if isinstance(cause, tomllib.TOMLDecodeError) else type(cause).__name__
        )
        raise DataError(f"{path}: cannot be read as {path.suffix[1:].upper()}: {said}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a table of options")
    return content


def _read(path: Path, scenario: Scenario, given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return _by_own_names(scenario, given)
    except ConfigError as cause:
        raise ConfigError(f"{path}: {cause}") from None


def _by_own_names(scenario: Scenario, given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of their types under their own names; `ConfigError` for one that there is not, with the
    nearest.
    """
    declared, found = scenario.options(), dict[str, Any]()
    aliases = {each.about.alias: each for each in declared.values() if each.about.alias}
    for key, value in given.items():
        name = str(key).replace("-", "_")
        each = declared.get(name) or aliases.get(name)
        if each is None:
            near = difflib.get_close_matches(name, [*declared, *aliases], 1, 0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{key!r} is no option of {scenario.name.replace('_', '-')}{hint}")
        if value is None or value == ():
            continue
        if each.name in found:
            raise ConfigError(f"{key!r} is the same as {each.name!r}: give one of them")
        found[each.name] = _bounded(each, converted(each, _as_listed(each, value)))
    return found


def _own_name(scenario: Scenario, name: str) -> str:
    """The name under which an option is declared: its own, or the one that an alias stands for."""
    return next((each.name for each in scenario.options().values() if each.about.alias == name), name)


def _as_listed(each: Declared, value: Any) -> Any:
    """A list of the file as a tuple; one value stands for a list of it."""
    if isinstance(value, list):
        return tuple(value)
    listed = isinstance(each.default, tuple) and isinstance(value, str | int)
    return (value,) if listed and not (isinstance(value, str) and "," in value) else value


def _bounded(each: Declared, value: Any) -> Any:
    """The value, if it is within the bounds that the option declares, as the command line has them."""
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, int | float) and not isinstance(one, bool):
            least, most = each.about.least, each.about.most
            if (least is not None and one < least) or (most is not None and one > most):
                said = f"at least {least:g}" if most is None else f"{least or 0:g} to {most:g}"
                raise ConfigError(f"{each.name!r}: expected {said}, got {one}")
    return value


def _told(pair: tuple[str, Any]) -> str:
    """A swept value as part of the name of a folder."""
    name, value = pair
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(as_plain(value))
    known = "".join(c if c.isalnum() or c in ".,+-" else "-" for c in text).strip("-")
    return f"{name}-{known[:40].rstrip('-') or 'none'}"
