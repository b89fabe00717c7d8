"""No step has a way around the language: mistakes by which a value crosses unsent are refused."""

import importlib
import pkgutil
import sys

import numpy as np
import pytest
import torch

import protocols
from protocols.language.confine import check_module, check_step, shared
from protocols.language.errors import VisibilityError
from protocols.language.state import State
from tests import toy_protocol

ARRAY = np.arange(5) + 1000

# Each a module whose step `hide`, at the owner, leaves its array (or, of a generator, something that only its
# draws tell) where the step `find`, at the cloud, meets it. No message is sent. The lines begin after the
# three imports of `HEAD`.
NO_STEPS = ("protocols.language.", "protocols.readings.")
HEAD = "import functools\nimport numpy as np\nimport torch\n"
MISTAKES = {
    "a global": "KEPT = []\ndef hide(state): KEPT.append(state.kept)\ndef find(state): return KEPT[-1]",
    "a global that is assigned":
        "KEPT = None\ndef hide(state):\n    global KEPT\n    KEPT = state.kept\ndef find(state): return KEPT",
    "a work array behind a cache":
        "@functools.lru_cache\ndef work(n): return np.zeros(n, int)\n"
        "def hide(state): work(5)[:] = state.kept\ndef find(state): return work(5)",
    "a shared work array":
        "from protocols.language.confine import shared\n@shared\ndef work(n): return np.zeros(n, int)\n"
        "def hide(state): work(5)[:] = state.kept\ndef find(state): return work(5)",
    "a class method":
        "class Scaler:\n    x = None\n    @classmethod\n    def fit(cls, x): cls.x = x\n"
        "def hide(state): Scaler.fit(state.kept)\ndef find(state): return Scaler.x",
    "an attribute of a class":
        "class Scaler: pass\ndef hide(state): Scaler.x = state.kept\ndef find(state): return Scaler.x",
    "a list in a class":
        "class Scaler:\n    seen = []\n    def fit(self, x): self.seen.append(x)\n"
        "def hide(state): Scaler().fit(state.kept)\ndef find(state): return Scaler().seen[-1]",
    "an attribute of a step": "def hide(state): hide.x = state.kept\ndef find(state): return hide.x",
    "an attribute of the state's class":
        "def hide(state): type(state).x = state.kept\ndef find(state): return type(state).x",
    "the state of a module two levels down":
        "import upper\ndef hide(state): upper.lower.put(state.kept)\n"
        "def find(state): return upper.lower.KEPT['x']",
    "an attribute of a module":
        "import blank\ndef hide(state): blank.x = state.kept\ndef find(state): return blank.x",
    "an attribute of a library's class":
        "def hide(state): torch.Tensor.x = state.kept\ndef find(state): return torch.Tensor.x",
    "a cached property of a public object":
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Box:\n    n: int = 5\n"
        "    @functools.cached_property\n    def work(self): return np.zeros(self.n, int)\nBOX = Box()\n"
        "def hide(state): BOX.work[:] = state.kept\ndef find(state): return BOX.work",
    "a frozen dataclass with a list":
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Box:\n    items: list\n"
        "BOX = Box([])\n"
        "def hide(state): BOX.items.append(state.kept)\ndef find(state): return BOX.items[0]",
    "an enum with a list":
        "import enum\nclass Kind(enum.Enum):\n    A = []\n"
        "def hide(state): Kind.A.value.append(state.kept)\ndef find(state): return Kind.A.value[0]",
    "a default argument":
        "def memory(x=None, kept=[]):\n    kept.append(x)\n    return kept\n"
        "def hide(state): memory(state.kept)\ndef find(state): return memory()[0]",
    "a closure":
        "def make():\n    kept = []\n    return lambda x=None: kept if x is None else kept.append(x)\n"
        "memory = functools.partial(make())\n"
        "def hide(state): memory(state.kept)\ndef find(state): return memory()[0]",
    "a file": "def hide(state): np.save('x.npy', state.kept)\ndef find(state): return np.load('x.npy')",
    "the environment":
        "import os\ndef hide(state): os.environ['x'] = str(state.kept.tolist())\n"
        "def find(state): return np.array(eval(os.environ['x']))",
    "the owner's data set":
        "from sklearn.datasets import load_digits\n"
        "def hide(state): state.kept[:] = load_digits().data[0, :5]\n"
        "def find(state): return load_digits().data[0, :5].astype(int)",
    "python's generator":
        "import random\ndef draw(): return np.array([random.random() for _ in range(5)])\n"
        "def hide(state):\n    random.seed(7)\n    state.kept = draw()\n    random.seed(7)\n"
        "def find(state): return draw()",
    "numpy's generator":
        "def hide(state):\n    np.random.seed(7)\n    state.kept = np.random.rand(5)\n    np.random.seed(7)\n"
        "def find(state): return np.random.rand(5)",
    "randn_like":
        "like = torch.zeros\n"
        "def hide(state):\n    torch.manual_seed(7)\n    state.kept = torch.randn_like(like(5)).numpy()\n"
        "    torch.manual_seed(7)\ndef find(state): return torch.randn_like(like(5)).numpy()",
    "nn.Linear":
        "def first(): return torch.nn.Linear(5, 1).weight.detach().numpy()\n"
        "def hide(state):\n    torch.manual_seed(7)\n    state.kept = first()\n    torch.manual_seed(7)\n"
        "def find(state): return first()",
    "dropout":
        "def drop(): return torch.nn.functional.dropout(torch.ones(50)).numpy()\n"
        "def hide(state):\n    torch.manual_seed(7)\n    state.kept = drop()\n    torch.manual_seed(7)\n"
        "def find(state): return drop()",
    "a tensor that draws":
        "def draw(): return torch.zeros(5).normal_().numpy()\n"
        "def hide(state):\n    torch.manual_seed(7)\n    state.kept = draw()\n    torch.manual_seed(7)\n"
        "def find(state): return draw()",
}  # fmt: skip

# What says nothing of another party, but reaches for what a step has no use for.
SHORTCUTS = (
    "open('/etc/hostname')", "eval('1')", "globals()", "setattr(state, 'x', 1)", "state.__class__",
    "f.__globals__", "__import__('os')", "np", "getattr(np, 'random')", "torch.randn(3)",
    "np.random.default_rng()", "torch.load('x')", "np.random.seed(1)",
)  # fmt: skip
HONEST = (
    "torch.randn(3, generator=torch.Generator().manual_seed(1))", "np.random.default_rng([1]).random()",
    "state.rng.random()", "state.held.setdefault('x', [0]).append(1)",
    "np.float32(1) + np.linalg.norm([1.0])",
)  # fmt: skip


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Import a module of the given source, next to a package that keeps something two levels down."""
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper" / "__init__.py").write_text("from upper import lower\n")
    (tmp_path / "blank.py").write_text("")
    (tmp_path / "upper" / "lower.py").write_text("KEPT = {}\ndef put(x): KEPT['x'] = x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.Tensor, "x", None, raising=False)
    monkeypatch.setattr(State, "x", None, raising=False)  # is restored, whatever a mistake makes of it

    def load(source):
        (tmp_path / "mistake.py").write_text(HEAD + source + "\n")
        return importlib.import_module("mistake")

    yield load
    for name in ("mistake", "blank", "upper", "upper.lower"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", MISTAKES)
def test_an_honest_mistake_by_which_a_value_crosses_unsent_is_refused(module, name):
    try:
        found = module(MISTAKES[name])
        owner, cloud = State(kept=ARRAY.copy()), State()
        found.hide(owner)
        assert np.array_equal(found.find(cloud), owner.kept)  # it would cross
    except VisibilityError:
        return  # refused already where it is made
    with pytest.raises(VisibilityError):
        check_module(found)


@pytest.mark.parametrize("said", SHORTCUTS)
def test_a_shortcut_is_refused_with_its_line(module, said):
    with pytest.raises(VisibilityError, match=r"mistake, line 5: "):
        check_module(module(f"def f(state):\n    return {said}"))


def test_a_protocol_cannot_open_what_was_revealed(module):
    with pytest.raises(VisibilityError, match=r"uses protocols\.language\.session\.opened"):
        check_module(module("from protocols.language.session import opened"))


@pytest.mark.parametrize("said", HONEST)
def test_what_a_step_needs_is_accepted(module, said):
    found = module(f"def f(state):\n    state.kept = {said}\n    return state.kept")
    check_module(found)
    found.f(State(held={}, rng=np.random.default_rng(0)))


@pytest.mark.parametrize("name", [m.name for m in pkgutil.walk_packages(protocols.__path__, "protocols.")
                                  if not m.ispkg and not m.name.startswith(NO_STEPS)])  # fmt: skip
def test_every_module_of_a_protocol_passes(name):
    check_module(importlib.import_module(name))


@pytest.mark.parametrize(
    "step",
    [lambda state: None, toy_protocol.make_closure(), toy_protocol.uses_default, len, print, State, "double"],
)
def test_only_module_level_functions_without_memory_are_steps(step):
    with pytest.raises(VisibilityError):
        check_step(step)


def test_a_shared_constant_is_made_once_and_cannot_be_changed():
    @shared
    def table(n):
        made = np.arange(n)
        made.flags.writeable = False
        return made

    assert table(4) is table(4) and table(4).tolist() == [0, 1, 2, 3]
