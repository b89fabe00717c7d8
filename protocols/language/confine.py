"""The check that a local step has no way to reach what its party does not hold.

A step is a module-level function `step(state, *values)`. What other parties hold could reach it through
anything that all parties of a process share: a module's global, an attribute of a class or a function, a
cache, a mutable default, a file, a library's own generator. `check_step` looks at a step when it is run.
`check_module` reads a whole module, and those of its author that it imports; it is run when a protocol is
loaded from a file, and in the tests over every module here:

* modules hold functions, classes and constants, and functions assign to nothing but what is theirs and their
  arguments';
* they import `protocols` and what `LIBRARIES` lists, and of large libraries name only the members listed
  there;
* they draw from `state.rng`, `state.coins` or a generator of their own, and cache by `shared` only.

It guards against mistakes and shortcuts, not against a hostile author: Python cannot confine code that wants
out, which is why parties also run in processes of their own.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from enum import Enum
from types import BuiltinFunctionType, FunctionType, GenericAlias, MappingProxyType, ModuleType, UnionType
from typing import Any, NoReturn, TypeVar

import numpy as np

from protocols.language.errors import VisibilityError
from protocols.language.libraries import DRAWING, DRAWING_METHODS, LIBRARIES, NATIVE

F = TypeVar("F", bound=Callable[..., Any])

_CONSTANTS = (
    type(None), bool, int, float, complex, str, bytes, range, np.generic, np.dtype, GenericAlias, UnionType,
    type, FunctionType, BuiltinFunctionType,
)  # fmt: skip
_FORBIDDEN = frozenset(
    ["__import__", "breakpoint", "compile", "delattr", "eval", "exec", "globals", "input", "locals", "open",
     "print", "setattr", "vars"]
)  # fmt: skip
_DUNDERS = frozenset(["__init__", "__name__", "__post_init__", "__qualname__"])
_UNLISTED = "which is not in the list of what a step may use"
_PACKAGES = ("site-packages", "dist-packages")


@functools.cache
def check_step(step: Callable[..., Any]) -> None:
    """Raise `VisibilityError` unless `step` is a module-level function without a memory of its own."""
    name = getattr(step, "__qualname__", repr(step))
    if not isinstance(step, FunctionType):
        raise VisibilityError(f"{name} is no step: expected a module-level function step(state, *values)")
    if "<lambda>" in name or "<locals>" in name or step.__closure__:
        raise VisibilityError(f"{name} is a lambda or a closure: a step must be a module-level function")
    if getattr(sys.modules.get(step.__module__), name, None) is not step:
        raise VisibilityError(f"{name} cannot be found by its name in {step.__module__}")
    _check_function(name, step)


@functools.cache
def check_module(module: ModuleType) -> None:
    """Raise `VisibilityError` at the first thing by which steps of a module could share what was not sent."""
    _check_module(module, set())


def shared(function: F) -> F:
    """A cache of public constants, which all parties may read and nobody can change."""

    @functools.lru_cache(maxsize=8)
    def made(*args: Any) -> Any:
        result = function(*args)
        if not is_constant(result):
            raise VisibilityError(f"{function.__qualname__} is shared: it must return what nobody can change")
        return result

    return functools.wraps(function)(made)  # type: ignore[return-value]


def is_constant(value: Any) -> bool:
    """Whether nobody can change it: plain data, frozen dataclasses and enums of it, read-only arrays."""
    if isinstance(value, Enum):
        return is_constant(value.value)
    if isinstance(value, tuple | frozenset):
        return all(is_constant(item) for item in value)
    if isinstance(value, MappingProxyType):
        return all(is_constant(item) for item in value.values())
    if isinstance(value, _CONSTANTS):
        return True
    if isinstance(value, np.ndarray):
        return not value.flags.writeable and (value.base is None or isinstance(value.base, bytes))
    if is_frozen(value):
        return all(is_constant(getattr(value, field.name)) for field in fields(value))
    kind = type(value)
    return kind.__module__ in ("__future__", "typing", "re", "collections.abc", "gmpy2") or (
        kind.__module__ == "torch" and kind.__name__ in ("dtype", "device", "Size")
    )


def is_frozen(value: Any) -> bool:
    """Whether it is a frozen dataclass and remembers no more than its fields: no cached property."""
    kind: Any = type(value)
    params = getattr(kind, "__dataclass_params__", None)
    return params is not None and not isinstance(value, type) and params.frozen and not _remembers(kind)


@functools.cache
def _remembers(cls: Any) -> bool:
    return any(isinstance(v, functools.cached_property) for base in cls.__mro__ for v in vars(base).values())


def _check_module(module: ModuleType, seen: set[str]) -> None:
    seen.add(module.__name__)
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError):
        raise VisibilityError(
            f"{module.__name__}: its source cannot be read, so its steps are not run"
        ) from None
    for name, value in vars(module).items():
        if not name.startswith("__") and not isinstance(value, ModuleType):
            _check_global(module.__name__, name, value)
    reader = _Reader(module)
    reader.visit(tree)
    for other in reader.others:
        if other.__name__ not in seen:
            _check_module(other, seen)


def _check_global(module: str, name: str, value: Any) -> None:
    """Refuse a global that can carry a value from one party to another."""
    if isinstance(value, FunctionType):
        if value.__module__ == module:
            _check_function(f"{module}.{name}", value)
    elif isinstance(value, type) and issubclass(value, Enum):
        _check_global(module, name, tuple(value))
    elif isinstance(value, type) and value.__module__ == module:
        for member, held in vars(value).items():
            if not (member.startswith("__") or member == "_abc_impl"):
                _check_global(module, f"{name}.{member}", getattr(held, "__func__", held))
    elif not (is_constant(value) or hasattr(value, "__get__") or hasattr(value, "__wrapped__")):
        raise VisibilityError(f"{module}: {name} ({type(value).__name__}) is shared, and can be changed")


def _check_function(name: str, function: FunctionType) -> None:
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        if not is_constant(default):
            raise VisibilityError(f"{name}: a default argument can hold another party's value")
    if function.__dict__.keys() - {"__wrapped__", "__isabstractmethod__", "__dataclass_transform__"}:
        raise VisibilityError(f"{name} carries attributes of its own")


class _Reader(ast.NodeVisitor):
    """Reads the source of a module and raises at the first thing that is not allowed, with its line."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        native = NATIVE if module.__name__.startswith("protocols.crypto.") else {}
        self._libraries: Mapping[str, frozenset[str] | None] = {**LIBRARIES, **native}
        self._named: dict[str, str] = {}  # local name of an import -> its dotted name
        self._local: frozenset[str] = frozenset()
        self.others: list[ModuleType] = []  # modules of the same author

    def _refuse(self, node: ast.AST, what: str) -> NoReturn:
        raise VisibilityError(f"{self._module.__name__}, line {getattr(node, 'lineno', '?')}: {what}")

    # imports

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._check_import(node, alias.name, module=True)
            bound = alias.asname or alias.name.partition(".")[0]
            self._named[bound] = alias.name if alias.asname else bound

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = "." * node.level + (node.module or "")
        base = importlib.util.resolve_name(base, self._module.__package__) if node.level else base
        for alias in node.names:
            dotted = f"{base}.{alias.name}"
            self._check_import(node, dotted, module=dotted in sys.modules)
            self._named[alias.asname or alias.name] = dotted

    def _check_import(self, node: ast.AST, dotted: str, module: bool) -> None:
        if self._library(dotted) is not None:
            if not module:
                self._check_member(node, dotted)
            return
        other = sys.modules.get(dotted) or sys.modules.get(dotted.rpartition(".")[0])
        path, top = getattr(other, "__file__", None) or "", dotted.partition(".")[0]
        foreign = not path or top in sys.stdlib_module_names or any(part in path for part in _PACKAGES)
        if other is None or foreign or top in ("parties", "scenarios"):
            self._refuse(node, f"imports {dotted}, {_UNLISTED}")
        self.others.append(other)

    def _library(self, dotted: str) -> str | None:
        """The entry of the list to which a dotted name belongs."""
        return next((name for name in self._libraries if f"{dotted}.".startswith(f"{name}.")), None)

    def _check_member(self, node: ast.AST, dotted: str) -> None:
        library = self._library(dotted)
        members = self._libraries[library] if library else None
        if library is not None and members is not None:
            parts = dotted[len(library) + 1 :].split(".")
            if not any(".".join(parts[:i]) in members for i in range(1, len(parts) + 1)):
                self._refuse(node, f"uses {dotted}, {_UNLISTED}")

    # names, attributes and calls

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in _FORBIDDEN:
            self._refuse(node, f"uses {node.id}")
        if self._libraries.get(self._named.get(node.id, "")) is not None:
            self._refuse(node, f"hands on the library {node.id} as a whole")

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self._check_owned(node)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._check_owned(node)
        if node.attr.startswith("__") and node.attr not in _DUNDERS:
            self._refuse(node, f"reaches for .{node.attr}")
        dotted = self._dotted(node)
        if dotted is None:
            self.generic_visit(node)
        else:
            self._check_member(node, dotted)

    def visit_Call(self, node: ast.Call) -> None:
        dotted = self._dotted(node.func)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if dotted in DRAWING or method in DRAWING_METHODS:
            given = node.args if dotted and dotted.startswith("numpy") else node.keywords
            if not any(isinstance(arg, ast.expr) or arg.arg == "generator" for arg in given):
                self._refuse(
                    node, f"{dotted or method} draws from a generator that all parties share: give it one"
                )
            for part in (*node.args, *(keyword.value for keyword in node.keywords)):
                self.visit(part)
        else:
            self.generic_visit(node)

    def _dotted(self, node: ast.AST) -> str | None:
        """The dotted name of a member of an import, or None."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        base = self._named.get(node.id) if isinstance(node, ast.Name) and node.id not in self._local else None
        return ".".join([base, *reversed(parts)]) if base else None

    # assignments

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outside, self._local = self._local, self._local | frozenset(_assigned(node))
        self.generic_visit(node)
        self._local = outside

    def visit_Global(self, node: ast.Global) -> None:
        self._refuse(node, f"assigns the global {node.names[0]}, which all parties share")

    def _check_owned(self, node: ast.Attribute | ast.Subscript) -> None:
        root = _root(node)
        if not isinstance(node.ctx, ast.Load) and (root not in self._local or root == "cls"):
            self._refuse(node, f"assigns to a part of {root}, which all parties share")


def _root(node: ast.AST) -> str:
    """The name from which an expression sets out: `state` of `state.held[x].y`; none of `"a".x`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else "a constant"


def _assigned(function: ast.FunctionDef) -> Iterator[str]:
    """The names that are a function's own: its parameters, and what it assigns."""
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
