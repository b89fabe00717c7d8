"""The check that a local step has no way to reach what its party does not hold.

A step is a module-level function `step(state, *values)`. Values of other parties could reach it through a closure, a default
argument, a module global, a function or class attribute, or a file. `check_step` reads the step's byte code, and that of
every function of the same code base that it names, and raises `VisibilityError` at the first of these. It guards
against mistakes and shortcuts, not against a hostile author: Python cannot confine code that wants out, which is why parties also
run in processes of their own.
"""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cache, lru_cache
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from protocols.errors import VisibilityError

_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, Enum)
_FORBIDDEN = frozenset(
    {"globals", "vars", "exec", "eval", "open", "__import__", "compile", "input", "print", "setattr"}
)
_CACHED = type(lru_cache(lambda: None))
_LIBRARIES = ("site-packages", "dist-packages", "lib-dynload")


@cache
def check_step(step: Callable[..., Any]) -> None:
    """Raise `VisibilityError` unless `step` is a module-level function without a way around the language."""
    name = getattr(step, "__qualname__", repr(step))
    if not isinstance(step, FunctionType):
        raise VisibilityError(f"{name} is no step: expected a module-level function step(state, *values)")
    if "<lambda>" in name or "<locals>" in name or step.__closure__:
        raise VisibilityError(f"{name} is a lambda or a closure: a step must be a module-level function")
    if getattr(sys.modules.get(step.__module__), name, None) is not step:
        raise VisibilityError(f"{name} cannot be found by its name in {step.__module__}")
    _check_function(step, name, set())


def _check_function(function: FunctionType, step: str, seen: set[int]) -> None:
    if id(function) in seen:
        return
    seen.add(id(function))
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        if not _is_constant(default):
            raise VisibilityError(
                f"{step}: a default argument of {function.__qualname__} can hold another party's value"
            )
    if function.__dict__.keys() - {"__wrapped__"}:
        raise VisibilityError(f"{step}: {function.__qualname__} carries attributes of its own")
    for code in _codes(function.__code__):
        _check_code(code, function, step)
        for name, value in _named(code, function.__globals__):
            _check_value(name, value, step, seen)


def _check_code(code: CodeType, function: FunctionType, step: str) -> None:
    """Refuse writes to globals and imports."""
    before = ""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME" and str(instruction.argval).startswith("protocols.crypto."):
            continue  # a native library that is loaded when its group is chosen
        if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL", "IMPORT_NAME"):
            raise VisibilityError(f"{step}: {function.__qualname__} uses {instruction.opname} {instruction.argval}")
        if instruction.opname == "STORE_ATTR" and before == "LOAD_GLOBAL":
            raise VisibilityError(f"{step}: {function.__qualname__} assigns an attribute of a global")
        if instruction.opname == "LOAD_GLOBAL" and instruction.argval in _FORBIDDEN:
            raise VisibilityError(f"{step}: {function.__qualname__} calls {instruction.argval}")
        before = instruction.opname


def _check_value(name: str, value: Any, step: str, seen: set[int]) -> None:
    """Refuse a global that can carry a value from one party to another; go on into our own functions and classes."""
    if isinstance(value, _CACHED):
        value = value.__wrapped__
    if isinstance(value, type):
        if not _is_library(value.__module__):
            _check_class(value, step, seen)
    elif isinstance(value, FunctionType):
        if not _is_library(value.__module__):
            _check_function(value, step, seen)
    elif not isinstance(value, ModuleType | BuiltinFunctionType) and not _is_constant(value):
        raise VisibilityError(f"{step}: the global {name} ({type(value).__name__}) can hold another party's value")


def _check_class(cls: type, step: str, seen: set[int]) -> None:
    if id(cls) in seen:
        return
    seen.add(id(cls))
    for name, value in vars(cls).items():
        if name.startswith("__") and name.endswith("__") and not isinstance(value, FunctionType):
            continue
        if isinstance(value, staticmethod | classmethod):
            value = value.__func__
        if isinstance(value, FunctionType):
            if not _is_library(value.__module__) and value.__code__.co_filename != "<string>":  # not dataclasses' own
                _check_function(value, step, seen)
        elif _is_store(value) and not issubclass(cls, Enum):
            raise VisibilityError(f"{step}: the class attribute {cls.__name__}.{name} can hold another party's value")


def _is_store(value: Any) -> bool:
    return isinstance(value, list | dict | set | bytearray) or type(value).__name__ in ("ndarray", "Tensor")


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(_is_constant(item) for item in value)
    if isinstance(value, _CONSTANTS):
        return True
    params = getattr(type(value), "__dataclass_params__", None)
    if params is not None:
        return bool(params.frozen)
    module = type(value).__module__
    return module.startswith(("torch", "numpy", "typing", "re", "types", "collections.abc")) and not hasattr(
        value, "shape"
    )


@cache
def _is_library(module: str) -> bool:
    """Whether a module is the standard library's or an installed package's, and not this code base's."""
    found = sys.modules.get(module)
    path = getattr(found, "__file__", None)
    if path is None or module.partition(".")[0] in sys.stdlib_module_names:
        return True
    if module.partition(".")[0] in ("protocols", "parties", "scenarios"):
        return False  # installed or in a checkout
    return any(part in path for part in _LIBRARIES)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _named(code: CodeType, scope: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The globals that a code object names, and what it may reach through modules of our own."""
    for name in code.co_names:
        if name not in scope:
            continue
        value = scope[name]
        yield name, value
        if isinstance(value, ModuleType) and not _is_library(value.__name__):
            for attribute in code.co_names:
                if hasattr(value, attribute):
                    yield f"{name}.{attribute}", inspect.getattr_static(value, attribute)
