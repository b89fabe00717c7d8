"""The folder that the site is built from: the pages of docs/, those that are made, and its configuration."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from parties.adversary.catalogue import ATTACKS, HEAD_ATTACKS
from parties.registry import PROTOCOLS
from scenarios.docs.pages import Rows, attack_page, protocol_page, scheme_page
from scenarios.show.listing import SCHEMES
from scenarios.show.terminal import dashed

_ROOT = Path(__file__).parents[2]
_MADE: dict[str, tuple[tuple[str, ...], Callable[[str, Rows], str]]] = {
    "protocols": (PROTOCOLS, protocol_page),
    "attacks": ((*ATTACKS, *HEAD_ATTACKS), attack_page),
    "schemes": (tuple(name for name, _ in SCHEMES.values()), scheme_page),
}


def write_site(folder: Path) -> None:
    """Write FOLDER/pages and FOLDER/mkdocs.yml; FOLDER/pages is made anew."""
    target = folder / "pages"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(_ROOT / "docs", target, ignore=shutil.ignore_patterns("*.ipynb"))
    rows = Rows({path.name: path.read_text(encoding="utf-8") for path in sorted(target.glob("*.md"))})
    for kind, (names, make) in _MADE.items():
        (target / kind).mkdir()
        for name in names:
            (target / kind / f"{dashed(name)}.md").write_text(make(name, rows) + "\n", encoding="utf-8")
    for notebook in sorted((_ROOT / "docs").glob("*.ipynb")):
        (target / f"{notebook.stem}.md").write_text("\n\n".join(_shown(notebook)) + "\n", encoding="utf-8")
    settings = yaml.safe_load((_ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    settings |= {"docs_dir": "pages", "site_dir": "site", "nav": [*map(_expanded, settings["nav"])]}
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def _expanded(entry: Any) -> Any:
    """An entry of the navigation, with the pages that are made in the place of `KIND/*`."""
    if not isinstance(entry, dict):
        return entry
    ((title, inner),) = entry.items()
    if isinstance(inner, list):
        return {title: [page for each in inner for page in _pages(each)]}
    return entry


def _pages(entry: Any) -> Iterator[Any]:
    if isinstance(entry, str) and entry.endswith("/*"):
        kind = entry.removesuffix("/*")
        yield from ({dashed(name): f"{kind}/{dashed(name)}.md"} for name in _MADE[kind][0])
    else:
        yield _expanded(entry)


def _shown(notebook: Path) -> Iterator[str]:
    """The cells of a notebook as markdown, with what they printed and drew when it was last executed."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        yield source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
        for output in cell.get("outputs", ()):
            yield _output(output)


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        png = base64.b64encode(base64.b64decode(data["image/png"])).decode()
        return f'<img alt="What this cell drew" src="data:image/png;base64,{png}">'
    if "text/html" in data:
        return f'<div style="overflow-x: auto">{"".join(data["text/html"])}</div>'
    return f"```text\n{''.join(data.get('text/plain', output.get('text', '')))}\n```"
