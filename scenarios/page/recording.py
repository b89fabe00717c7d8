"""What a page says of a recording, which has no result.json: the ledger, computed anew, and what crossed."""

from __future__ import annotations

from typing import Any

from parties.adversary.adversary import Adversary
from protocols.recorded import SECURITY
from scenarios.run.folder import RunFolder
from scenarios.run.learned import learned, learned_rows


def of_recording(run: RunFolder) -> dict[str, Any]:
    """The keys of result.json that a page shows; without accuracy and seconds, which nobody measured."""
    config = run.settings["config"]
    return {
        "scenario": run.settings["scenario"],
        "protocol": run.settings["protocol"],
        "security": {"protocol": SECURITY},
        "config": config,
        "steps": len(run.moments()),
        "learned": learned_rows(learned(run, Adversary)),
        "attacks": [],
        "transcript_digest": run.digest(),
        "versions": {},
    }


def headline(run: RunFolder) -> str:
    """What was recorded, in one line."""
    counts = run.settings["config"].get("counts", ())
    parties = ", ".join(dict.fromkeys(name.partition(":")[0].replace("_", " ") for name in run.sources))
    samples = f" · {sum(counts)} samples of {len(counts)} owners" if counts else ""
    return f"recording {run.path.name}{samples} · {parties}"
