"""Pages: every command of the README and of docs/ works, links lead somewhere, pages are made of the code.

Blocks without a language are commands for a shell, each line one. Runs are made smaller (`SMALLER`); commands
that are marked with minutes, that name something of the user's, or that serve pages until they are stopped,
have their options parsed only.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from protocols.language.errors import KeyholeError
from scenarios.cli import app
from scenarios.docs import pages, site
from tests.conftest import random_base

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "tests" / "examples"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
SMALLER = {
    "run": "--runtime inline --no-audit --samples 48 --epochs 1",
    "run mitig2": "--runtime inline --no-audit --samples 48 --epochs 1 --hidden 8",
    "run reverse-he": "--runtime inline --no-audit --queries 4 --key-bits 2048 --base BASE",
    "audit": "--samples 4 --epochs 1 --hidden 4 --batch 2",
    "audit he-train": "--samples 4 --epochs 1 --batch 2",
    "learned": "--no-audit",
    "predict": "--runtime inline --samples 20",
}
OF_THE_USER = re.compile(r"\b(RUN|FILE|DIR)\b")


def blocks(path, *languages):
    return [
        text for language, text in BLOCK.findall(path.read_text(encoding="utf-8")) if language in languages
    ]


def commands():
    """(line, comment) of every command, once, in order."""
    found = {}
    for path in PAGES:
        for block in blocks(path, ""):
            for line in block.strip().splitlines():
                command, _, comment = line.partition("  #")
                found.setdefault(command.strip(), comment)
    return found


COMMANDS = commands()
KEYHOLE = [line for line in COMMANDS if line.startswith(("keyhole ", "python -m scenarios."))]


def only_parsed(line):
    return bool(OF_THE_USER.search(line)) or "minutes" in COMMANDS[line] or line.startswith("keyhole view ")


def arguments(line):
    """What follows `keyhole`."""
    words = shlex.split(line)
    return ["run", words[2].partition(".")[2], *words[3:]] if words[0] == "python" else words[1:]


def smaller(words):
    """The same command, on less."""
    if "--resume" in words:
        return words
    more = next((SMALLER[key] for key in (" ".join(words[:2]), words[0]) if key in SMALLER), "")
    if words[:2] == ["audit", "./my_idea.py"]:
        more = "--samples 4 --epochs 1"
    more += " --rebuild 1" if "--rebuild" in words else ""
    return [*words, *more.replace("BASE", str(random_base(width=64))).split()]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder where a reader may be: with the repository's tests, a protocol of theirs, and two runs."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "tests").symlink_to(ROOT / "tests")
    (folder / "docs").symlink_to(ROOT / "docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        of_the_reader(folder)
        carried_out("keyhole new protocol my-idea")
        for line in KEYHOLE:
            if "--out runs/" in line and not only_parsed(line):
                carried_out(line)
        carried_out("keyhole run plain-fe --seed 1 --out runs/second")
        yield folder


def of_the_reader(folder):
    """Data sets and configurations under the names that the pages give them."""
    rng, labels = np.random.default_rng(0), np.arange(80) % 2
    images = rng.integers(0, 256, (80, 6, 9), dtype=np.uint8)
    np.savez(folder / "mine.npz", images=images, labels=labels)
    for k, image in enumerate(images):
        kind = folder / "pictures" / ("cat", "dog")[k % 2]
        kind.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(kind / f"{k}.png")
    columns = rng.normal(size=(80, 3)).round(3)
    rows = "\n".join(f"{a},{b},{c},{('good', 'bad')[k % 2]}" for k, (a, b, c) in enumerate(columns))
    (folder / "mine.csv").write_text(f"a,b,c,kind\n{rows}\n")
    table = pyarrow.table({**dict(zip("abc", columns.T, strict=True)), "kind": labels})
    pyarrow.parquet.write_table(table, folder / "mine.parquet")
    (folder / "mine.toml").write_text('scenario = "mitig2"\nhidden = 8\n')
    (folder / "grid.toml").write_text('scenario = "mitig2"\n[sweep]\nhidden = [4, 8]\n')


DONE = {}


def carried_out(line):
    """The outcome of a command in this folder, carried out once."""
    if line not in DONE:
        DONE[line] = CliRunner().invoke(app, smaller(arguments(line)), env={"COLUMNS": "120"})
    return DONE[line]


@pytest.mark.parametrize("line", [line for line in KEYHOLE if not only_parsed(line)])
def test_a_command_of_the_pages_works(line, here):
    outcome = carried_out(line)
    assert outcome.exit_code == 0 and outcome.stdout.strip(), outcome.output


@pytest.mark.parametrize("line", [line for line in KEYHOLE if only_parsed(line)])
def test_a_long_command_of_the_pages_is_well_formed(line):
    parsed(arguments(line))
    with pytest.raises(Exception, match="No such option"):
        parsed([*arguments(line), "--no-such-option"])


def parsed(words):
    """Parse a command to its end, and carry nothing out."""
    command = typer.main.get_command(app)
    while True:
        context = command.make_context("keyhole", list(words))
        if not hasattr(command, "resolve_command"):
            return
        _, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


def test_other_commands_are_those_of_the_makefile_of_pip_and_of_the_recipe():
    makefile, pins = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "constraints.txt"))
    for line in COMMANDS:
        if line in KEYHOLE:
            continue
        word, *rest = line.split()
        if word == "make":
            assert f"\n{rest[0]}:" in makefile
        elif word == "pip":
            assert rest[:3] == ["install", "-c", "constraints.txt"]
            assert rest[-1] in (".", "'.[cluster]'") or rest[-1] in pins
        else:
            assert line.startswith(("ray ", "export RAY_"))


def test_python_of_the_pages_runs(here, capsys):
    small = "samples=48, hidden=8, epochs=2, batch=16, no_audit=True,"
    for path in PAGES:
        for block in set(blocks(path, "python")) - {file.read_text() for file in EXAMPLES.glob("*.py")}:
            cheap = block.replace("samples=140, hidden=32, epochs=12,", small)
            cheap = cheap.replace('audit("mitig2")', 'audit("mitig2", samples=4, epochs=1)')
            exec(compile(cheap, path.name, "exec"), {})
    assert capsys.readouterr().out


def test_the_readme_shows_eight_lines_of_what_its_command_prints(tmp_path):
    """In their order, word for word and column for column; of times only that they are there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (shown,) = blocks(ROOT / "README.md", "text")
    command = re.search(r"eight of the lines that `keyhole ([^`]+)` prints, at 80 columns", text)[1]
    words = [*shlex.split(command), "--runtime", "inline", "--out", str(tmp_path / "run")]
    outcome = CliRunner().invoke(app, words, env={"COLUMNS": "80"})
    assert outcome.exit_code == 0, outcome.output
    printed = [timeless(line) for line in outcome.stdout.replace("· inline ·", "· Ray ·").splitlines()]
    lines, at = [timeless(line) for line in shown.splitlines()], -1
    assert len(lines) == 8
    for line in lines:
        assert line in printed[at + 1 :], f"not printed, or not below the line before it: {line}"
        at = printed.index(line, at + 1)


def timeless(line):
    """A line without its times, and without the blanks at its end."""
    return re.sub(r"\d+(\.\d+)? (ms|s|min|h)\b", "(time)", line).rstrip()


def test_the_readme_is_short_and_says_first_what_keyhole_is_not_for():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150 and lines[2].startswith("**Not for production secrets.**")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    made = {f"{kind}/{pages.dashed(name)}.md" for kind, (names, _) in site._MADE.items() for name in names}
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        known = file in made | {"notebook.md"} or (path.parent / (file or path.name)).exists()
        assert known, target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", (path.parent / (file or path.name)).read_text(), re.M)
            assert anchor in {re.sub(r"[^\w]+", "-", head.lower()).strip("-") for head in heads}


def test_a_docstring_becomes_markdown():
    text = "Says <w, x> and `a<b`.\nA list:\n* one\n* two\n    code <w>\nend [1]"
    assert pages.prose(text).splitlines() == [
        "Says &lt;w, x> and `a<b`.", "A list:", "", "* one", "* two", "", "    code <w>", "", "end \\[1]"
    ]  # fmt: skip


def test_the_site_is_built_of_the_code_without_a_warning_and_asks_nobody(tmp_path, monkeypatch):
    """With the pages of one protocol: all of them take a quarter of a minute."""
    zensical = Path(sys.executable).with_name("zensical")
    if not zensical.exists():
        pytest.skip("zensical is not installed")
    monkeypatch.setitem(site._MADE, "protocols", (site._MADE["protocols"][0], cheap_page))
    site.write_site(tmp_path)
    page = (tmp_path / "pages" / "attacks" / "lattice-gram.md").read_text()
    assert "Takes from a view: `Products`" in page and "## What the tables of these pages say" in page
    assert "eprint 2015/017" in (tmp_path / "pages" / "schemes" / "lwe.md").read_text()
    built = subprocess.run(
        [zensical, "build", "--strict", "--clean"], cwd=tmp_path, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    text = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html"))
    fetched = re.findall(r'(?:src|href)="((?:https?:)?//[^"]+)"', text)
    assert {address for address in fetched if not address.startswith("https://zensical.org")} == set()
    shutil.rmtree(tmp_path / "site")


def cheap_page(name, rows):
    return pages.protocol_page(name, rows) if name == "mitig2" else f"# {name}"


def test_no_page_is_made_of_a_protocol_that_is_not_there():
    with pytest.raises(KeyholeError, match="unknown"):
        pages.protocol_page("mitig3", pages.Rows({}))
