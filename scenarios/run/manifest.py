"""manifest.json: what a finished run is bound to, and one hash over all of it, which a run prints at its end.

Whoever has noted that hash elsewhere knows later whether the folder is still that of the same run. Whoever
has only the folder knows whether its parts fit each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

from parties.record.commitments import commitments
from protocols.language.options import derived
from scenarios.run.folder import RunFolder, read_json, write_json
from scenarios.run.json_schema import object_of, plain

SCHEMA = 1
NAME = "manifest.json"
_HEX = "^[0-9a-f]{64}$"


def _by_party(help: str) -> Any:
    return derived(f"of each party: SHA-256 over {help}")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """manifest.json of a run; digests are SHA-256 in hex, those of JSON files of their content with sorted
    keys
    """

    schema: Literal[1] = derived("version of these keys", SCHEMA)
    config: str = derived("digest of config.json", pattern=_HEX)
    versions: dict[str, str] = derived("of Python, keyhole and the libraries that results rest on")
    inputs: dict[str, str] = _by_party("its inputs")
    coins: dict[str, str] = _by_party("its coins: a commitment, which gives none of them away")
    steps: dict[str, str] = _by_party("its local steps, with the arguments that the script gave them")
    order: dict[str, str] = _by_party("the headers of all entries of its view, in their order")
    messages: str = derived("the transcript digest", pattern=_HEX)
    result: str = derived("digest of result.json", pattern=_HEX)

    @property
    def hash(self) -> str:
        """The one hash: SHA-256 over all of this."""
        return _digest(plain(self), "keyhole manifest v1\n")


def manifest_of(run: RunFolder) -> Manifest:
    """The manifest of a folder as it is now."""
    run = RunFolder(run.path)  # nothing that was read before
    found = {party: each for path in run.transcripts for party, each in commitments(path)}

    def of_each(part: str) -> dict[str, str]:
        return {party: getattr(found[party], part) for party in run.sources}

    return Manifest(
        config=_digest(run.settings),
        versions=run.result["versions"],
        inputs=of_each("inputs"),
        coins=of_each("coins"),
        steps=of_each("steps"),
        order=of_each("order"),
        messages=run.digest(),
        result=_digest(run.result),
    )


def write_manifest(run: RunFolder) -> str:
    """Write manifest.json of a finished run; returns the one hash."""
    manifest = manifest_of(run)
    write_json(run.path / NAME, {**plain(manifest), "manifest": manifest.hash})
    return manifest.hash


def stored_hash(run: RunFolder) -> str | None:
    """The one hash as it is stored; None for a folder without it."""
    if not (run.path / NAME).is_file():
        return None
    return str(_stored(run)["manifest"])


def manifest_faults(run: RunFolder) -> Iterator[str]:
    """What the folder of a finished run holds that its manifest does not commit to, a line each."""
    if not (run.path / NAME).is_file():
        yield f"{NAME}: missing, so nothing says what the run was bound to"
        return
    stored, now = _stored(run), manifest_of(run)
    said = {name: stored[name] for name in (each.name for each in fields(Manifest))}
    if stored["manifest"] != _digest(said, "keyhole manifest v1\n"):
        yield f"{NAME}: its hash is not that of what it lists"
    for name, value in plain(now).items():
        if value != said[name]:
            yield from _named(name, value, said[name])


def _named(name: str, now: Any, then: Any) -> Iterator[str]:
    """Whose part of a manifest is another one."""
    if name in ("config", "result"):
        yield f"{name}: {name}.json is not the one that the manifest commits to"
    elif name == "messages":
        yield "messages: their digest is not the one that the manifest commits to"
    elif not isinstance(now, dict):
        yield f"{name}: not what the manifest commits to"
    else:
        for key in sorted(now.keys() | then.keys()):
            if now.get(key) != then.get(key):
                yield f"{name}: those of {key} are not the ones that the manifest commits to"


def _stored(run: RunFolder) -> dict[str, Any]:
    schema = object_of(Manifest, {"manifest": {"type": "string", "pattern": _HEX}})
    return read_json(run.path / NAME, schema)


def _digest(content: Any, prefix: str = "") -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{prefix}{canonical}".encode()).hexdigest()
