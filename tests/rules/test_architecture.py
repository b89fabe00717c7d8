"""The arrows between packages, read from the imports."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    path
    for package in ("protocols", "parties", "scenarios")
    for path in sorted((ROOT / package).rglob("*.py"))
]


@cache
def imports(path):
    return tuple(_imports(path))


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(name):
    return {
        str(path.relative_to(ROOT))
        for path in FILES
        for module in imports(path)
        if (module + ".").startswith(name + ".")
    }


def folders(paths):
    return {path.rpartition("/")[0] for path in paths}


def test_packages_depend_downwards_only():
    assert not {p for name in ("parties", "scenarios") for p in importers(name) if p.startswith("protocols")}
    assert not {p for p in importers("scenarios") if p.startswith("parties")}


def test_ray_is_imported_by_its_files_only():
    assert importers("ray") == {f"parties/runtime/{n}.py" for n in ("on_ray", "ray_session", "ray_tasks")}


def test_cvxopt_phe_and_structlog_stay_in_their_rooms():
    assert folders(importers("cvxopt")) == {"parties/adversary/solvers"}
    assert importers("phe") <= {"protocols/crypto/paillier.py"}
    assert {f.partition("/")[0] for f in importers("structlog")} <= {"parties", "scenarios"}


def test_the_adversary_imports_no_other_party_no_data_and_no_truth():
    allowed = ("parties.adversary", "parties.record.view", "parties.record.transcript", "parties.registry")
    for path in (ROOT / "parties" / "adversary").rglob("*.py"):
        bad = [
            m
            for m in imports(path)
            if m.startswith(("parties", "scenarios")) and not m.startswith(allowed) and m != "parties"
        ]
        assert bad == [], path


def test_only_owners_and_scenarios_read_data_sets():
    assert {p for p in importers("parties.data.datasets") if p.startswith("parties")} <= {
        "parties/data/shares.py", "parties/runtime/host.py"}  # fmt: skip
    assert folders(importers("parties.data.readers")) == {"parties/data"}


def test_truth_meets_reconstructions_where_they_are_scored_and_nowhere_else():
    outside = {"scenarios/run/attacks.py", "scenarios/run/folder.py"}
    assert importers("scenarios.score.metrics") <= outside | {"scenarios/score/retrain.py"}
    assert importers("scenarios.score.retrain") <= {"scenarios/run/attacks.py"}
    assert importers("scenarios.score.roc") <= {"scenarios/study/matrix.py"}


@pytest.mark.parametrize(
    "module",
    [
        "socket",
        "logging",
        "time",
        "datetime",
        "sqlite3",
        "pathlib",
        "tempfile",
        "subprocess",
        "random",
        "ray",
        "structlog",
        "os.path",
        "io",
        "shutil",
        "urllib",
        "multiprocessing",
        "asyncio",
    ],
)
def test_protocols_are_pure(module):
    assert not {path for path in importers(module) if path.startswith("protocols")}


@pytest.mark.parametrize("module", ["pickle", "cloudpickle", "shelve", "marshal", "dill", "joblib"])
def test_nothing_unpickles(module):
    assert importers(module) == set()


def test_schemes_draw_from_the_coins_only():
    for path in (ROOT / "protocols" / "crypto").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for generator in (
            "default_rng",
            "np.random",
            "torch.rand",
            "manual_seed",
            "import secrets",
            "import random",
            "urandom",
        ):
            assert generator not in text, f"{path.name}: {generator}"


WRITES = re.compile(
    r"\.mkdir\(|\.touch\(|\.write_(text|bytes)\(|\.open\([^)]*[\"'][wax]|"
    r"savefig\(path|np\.savez?(_compressed)?\((?!file)"
)
KEPT_ELSEWHERE = {
    "scenarios/docs/site.py",  # pages to be published
    "scenarios/run/folder.py",
    "scenarios/run/public_base.py",
}  # a cache of what anybody may download


def test_what_scenarios_write_is_written_where_permissions_are_seen_to():
    found = {str(path.relative_to(ROOT)) for path in FILES if WRITES.search(path.read_text(encoding="utf-8"))}
    assert {path for path in found if path.startswith("scenarios")} <= KEPT_ELSEWHERE
