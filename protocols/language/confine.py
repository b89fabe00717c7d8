"""The check that a local step has no way to reach what its party does not hold.

A step is a module-level function `step(state, *values)`. Values of other parties could reach it through a closure, a default
argument, a module global, a function or class attribute, a file, or a generator that all parties of a process share. `check_step`
reads the step's byte code, and that of every function and class of the same code base that it names, and raises `VisibilityError`
at the first of these. It guards
against mistakes and shortcuts, not against a hostile author: Python cannot confine code that wants out, which is why parties also
run in processes of their own.
"""

from __future__ import annotations

import dataclasses
import dis
import inspect
import reprlib
import sys
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields
from enum import Enum
from functools import cache, cached_property, lru_cache
from os import cpu_count
from types import BuiltinFunctionType, CodeType, FunctionType, GenericAlias, ModuleType, UnionType
from typing import Any

import numpy as np

from protocols.language.errors import VisibilityError

_CONSTANTS = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    np.generic,
    np.dtype,
    GenericAlias,
    UnionType,
)
_FORBIDDEN = frozenset(
    [
        "__import__",
        "compile",
        "delattr",
        "eval",
        "exec",
        "globals",
        "input",
        "locals",
        "open",
        "print",
        "setattr",
        "vars",
    ]
)
# Through these a step would reach a class, another function's globals, or what a closure holds.
_HIDDEN = frozenset(
    ["__class__", "__dict__", "__globals__", "__builtins__", "__code__", "__closure__", "__defaults__", "__kwdefaults__",
     "__subclasses__", "__bases__", "__mro__", "__wrapped__", "__self__", "__func__"]
)  # fmt: skip
# Files, the environment, other processes and the interpreter itself.
_CLOSED = frozenset(
    ["builtins", "gc", "glob", "importlib", "inspect", "io", "logging", "mmap", "multiprocessing", "os", "pathlib", "pickle",
     "posix", "shelve", "shutil", "socket", "sqlite3", "subprocess", "sys", "tempfile"]
)  # fmt: skip
# Members of open libraries that read files, or draw from a generator that every party in the process shares.
_CLOSED_MEMBERS = frozenset(
    [("numpy", "fromfile"), ("numpy", "genfromtxt"), ("numpy", "load"), ("numpy", "loadtxt"), ("numpy", "memmap"),
     ("numpy", "random"), ("numpy", "save"), ("numpy", "savetxt"), ("numpy", "savez"), ("numpy", "savez_compressed"),
     ("torch", "bernoulli"), ("torch", "from_file"), ("torch", "load"), ("torch", "manual_seed"), ("torch", "multinomial"),
     ("torch", "normal"), ("torch", "rand"), ("torch", "randint"), ("torch", "randn"), ("torch", "random"),
     ("torch", "randperm"), ("torch", "save"), ("torch", "seed")]
)  # fmt: skip
_DESCRIPTORS = (
    "member_descriptor",
    "getset_descriptor",
    "wrapper_descriptor",
    "method_descriptor",
    "_abc_data",
)
_CACHED = type(lru_cache(lambda: None))
_GENERATED = ("<string>", dataclasses.__file__, reprlib.__file__)  # the methods that dataclasses writes
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
    for name, value in _enclosed(function):
        _check_value(name, value, step, seen)
    for code in _codes(function.__code__):
        _check_code(code, function, step)
        for name, value in _named(code, function.__globals__):
            _check_value(name, value, step, seen)


def _check_code(code: CodeType, function: FunctionType, step: str) -> None:
    """Refuse imports, writes to globals and classes, and the closed members of libraries."""
    before, holder = "", None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME" and str(instruction.argval).startswith("protocols.crypto."):
            continue  # a native library that is loaded when its group is chosen
        if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL", "IMPORT_NAME"):
            raise VisibilityError(
                f"{step}: {function.__qualname__} uses {instruction.opname} {instruction.argval}"
            )
        if instruction.opname == "STORE_ATTR" and before in ("LOAD_GLOBAL", "LOAD_DEREF", "CALL"):
            raise VisibilityError(
                f"{step}: {function.__qualname__} assigns an attribute of what is not the party's own"
            )
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and _is_closed(holder, str(instruction.argval)):
            raise VisibilityError(f"{step}: {function.__qualname__} reaches for .{instruction.argval}")
        if instruction.opname == "LOAD_GLOBAL" and instruction.argval in _FORBIDDEN:
            raise VisibilityError(f"{step}: {function.__qualname__} calls {instruction.argval}")
        before = instruction.opname
        holder = function.__globals__.get(instruction.argval) if before == "LOAD_GLOBAL" else None


def _is_closed(holder: Any, member: str) -> bool:
    """Whether a step may not name this member; `holder` is the global that it is taken from, if it is one."""
    return member in _HIDDEN or (
        isinstance(holder, ModuleType) and (holder.__name__, member) in _CLOSED_MEMBERS
    )


def _check_value(name: str, value: Any, step: str, seen: set[int]) -> None:
    """Refuse a global that can carry a value from one party to another; go on into our own functions and classes."""
    if isinstance(value, _CACHED):
        value = value.__wrapped__
        if not _returns_constant(value):
            raise VisibilityError(
                f"{step}: {name} is cached, so what it returns is shared: annotate an immutable result"
            )
    if value is cpu_count:
        return  # says nothing of a party
    home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) or ""
    if home.partition(".")[0] in _CLOSED and (home != "builtins" or isinstance(value, ModuleType)):
        raise VisibilityError(f"{step}: {name} of {home} reaches beyond the party")
    if isinstance(value, type):
        if not _is_library(home):
            _check_class(value, step, seen)
    elif isinstance(value, FunctionType):
        if not _is_library(home):
            _check_function(value, step, seen)
    elif not isinstance(value, ModuleType | BuiltinFunctionType) and not _is_constant(value):
        raise VisibilityError(
            f"{step}: the global {name} ({type(value).__name__}) can hold another party's value"
        )


def _check_class(cls: type, step: str, seen: set[int]) -> None:
    if id(cls) in seen:
        return
    seen.add(id(cls))
    for base in cls.__mro__:
        if not _is_library(base.__module__):
            for name, value in vars(base).items():
                _check_member(base, name, value, step, seen)


def _check_member(cls: type, name: str, value: Any, step: str, seen: set[int]) -> None:
    """Refuse a class attribute that all parties of a process would share; go on into methods and properties."""
    functions = _functions_of(value)
    for function in functions:
        if not _is_library(function.__module__) and function.__code__.co_filename not in _GENERATED:
            _check_function(function, step, seen)
    if functions or (name.startswith("__") and name.endswith("__")) or type(value).__name__ in _DESCRIPTORS:
        return
    if issubclass(cls, Enum) and not isinstance(value, cls):
        return  # what Enum keeps for itself
    if isinstance(value, type):
        _check_value(name, value, step, seen)
    elif not _is_constant(value):
        raise VisibilityError(
            f"{step}: the class attribute {cls.__name__}.{name} can hold another party's value"
        )


def _functions_of(value: Any) -> tuple[FunctionType, ...]:
    """The functions behind a method, a property or a cached property."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        found = (value.fget, value.fset, value.fdel)
    else:
        found = (value.func if isinstance(value, cached_property) else value, None, None)
    return tuple(function for function in found if isinstance(function, FunctionType))


def _enclosed(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """What the closure of a helper holds."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _returns_constant(function: FunctionType) -> bool:
    """Whether a cached function says that its result is no container to which somebody could add."""
    returned = typing.get_type_hints(function).get("return", Any)
    return returned is not Any and (typing.get_origin(returned) or returned) not in (
        list,
        dict,
        set,
        bytearray,
    )


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(_is_constant(item) for item in value)
    if isinstance(value, Enum):
        return _is_constant(value.value)
    if isinstance(value, _CONSTANTS):
        return True
    params = getattr(type(value), "__dataclass_params__", None)
    if params is not None and not isinstance(value, type):
        return bool(params.frozen) and all(
            _is_constant(getattr(value, field.name)) for field in fields(value)
        )
    kind = type(value)
    return kind.__module__ in ("typing", "re", "collections.abc") or (
        kind.__module__ == "torch" and kind.__name__ in ("dtype", "device", "Size")
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
