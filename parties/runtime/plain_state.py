"""What a party holds, as plain data that the project's own codec writes, and back: no pickle.

Arrays, tensors and dataclasses keep what a computation can depend on: the order of their axes in memory,
whether they may be written to, and which of them are one and the same. What is anything else is refused with
its name, and whoever asked goes on without.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
import typing
import warnings
from collections.abc import Iterable
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gmpy2 import mpz
from numpy.typing import NDArray

from protocols.language.errors import DataError, EncodingError

_SCALARS = (bool, int, float, str, bytes)
_OURS = (
    "protocols",
    "parties",
)  # whose data classes and enumerations are held, and those of a run's protocol
_BITS = {each.__name__: each for each in (
    np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)}  # fmt: skip


class Lowering:
    """Turns values into entries of plain data, one after the other; what one entry holds are the numbers of
    others, of those before it, and what occurs again has its number.
    """

    def __init__(self, package: str = "") -> None:
        """`package`: of the run's protocol."""
        self._packages = (*_OURS, package)
        self._numbers: dict[Any, int] = {}
        self._count = 0
        self._new: list[Any] = []
        self._alive: list[Any] = []  # so that no number of an object is given twice
        self._spans: list[tuple[int, int, bool]] = []

    def lowered(self, value: Any, where: str) -> dict[str, Any]:
        """The value's entries that are new, and its number; `EncodingError` names what cannot be written, and
        `where` it is.
        """
        number, new, self._new = self._number(value, where), self._new, []
        return {"new": new, "value": number}

    def check_apart(self) -> None:
        """`EncodingError` where a part of an array that may be written to is another array as well."""
        end, writable = -1, False
        for start, stop, changes in sorted(self._spans):
            if start < end and (changes or writable):
                raise EncodingError("an array that changes shares its memory with a part of another one")
            writable = changes if start >= end else writable or changes
            end = max(end, stop)

    def _number(self, value: Any, where: str) -> int:
        if value is None or type(value) in _SCALARS:
            return self._entry(["s", value])
        if isinstance(value, torch.Tensor):
            return self._entry(["T", self._array(value.detach().numpy(), where)])
        if isinstance(value, np.ndarray):
            return self._array(value, where)
        if id(value) not in self._numbers:
            self._numbers[id(value)] = self._entry(self._object(value, where))
            self._alive.append(value)
        return self._numbers[id(value)]

    def _entry(self, entry: list[Any]) -> int:
        self._new.append(entry)
        self._count += 1
        return self._count - 1

    def _array(self, array: NDArray[Any], where: str) -> int:
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise EncodingError(f"{where} is an array of {array.dtype}")
        self._alive.append(array)
        start, stop = np.lib.array_utils.byte_bounds(array) if array.size else (id(array), id(array))
        key = (start, array.shape, array.strides, array.dtype.str)
        if key not in self._numbers:
            if array.size:
                self._spans.append((start, stop, bool(array.flags.writeable)))
            order = np.argsort([-stride for stride in array.strides], kind="stable")
            held = np.ascontiguousarray(array.transpose(order)).reshape([array.shape[i] for i in order])
            writable = bool(array.flags.writeable)
            self._numbers[key] = self._entry(["a", held, [int(axis) for axis in order], writable])
        return self._numbers[key]

    def _object(self, value: Any, where: str) -> list[Any]:
        kind = type(value)
        if kind in (list, tuple):
            if all(item is None or type(item) in _SCALARS for item in value):
                return ["L" if kind is list else "P", list(value)]
            return ["l" if kind is list else "t", self._all(value, where)]
        if kind is dict:
            keys = self._all(value, f"keys of {where}")
            return ["d", keys, [self._number(each, f"{where}[{key!r:.20}]") for key, each in value.items()]]
        if isinstance(value, np.generic):
            return ["n", np.asarray(value)]
        if isinstance(value, mpz):
            return ["z", int(value)]
        if isinstance(value, Enum):
            return ["e", *self._class(kind, where), value.name]
        if isinstance(value, type) and dataclasses.is_dataclass(value):
            return ["k", *self._class(value, where)]
        if kind is np.random.Generator and type(value.bit_generator).__name__ in _BITS:
            return ["g", self._number(value.bit_generator.state, where)]
        if not dataclasses.is_dataclass(kind):
            raise EncodingError(f"{where} is a {kind.__name__}")
        names = [each.name for each in dataclasses.fields(kind)]
        more = [name for name in vars(value) if name not in names and not _cached(kind, name)]
        if more:
            raise EncodingError(f"{where} is a {kind.__name__} with {more[0]}")
        fields = [self._number(getattr(value, name), f"{where}.{name}") for name in names]
        return ["c", *self._class(kind, where), fields]

    def _all(self, items: Iterable[Any], where: str) -> list[int]:
        return [self._number(item, f"{where}[{i}]") for i, item in enumerate(items)]

    def _class(self, kind: type, where: str) -> tuple[str, str]:
        if "<" in kind.__qualname__:
            raise EncodingError(f"{where} is a {kind.__name__}, a class of a function")
        if kind.__module__.partition(".")[0] not in self._packages:
            raise EncodingError(f"{where} is a {kind.__name__} of {kind.__module__}")
        return kind.__module__, kind.__qualname__


def _cached(kind: type, name: str) -> bool:
    return isinstance(getattr(kind, name, None), cached_property)


class Raising:
    """Turns entries into the values again, in the order in which they were lowered."""

    def __init__(self, package: str = "") -> None:
        """`package`: of the run's protocol."""
        self._packages = (*_OURS, package)
        self._known: list[Any] = []

    def raised(self, plain: Any) -> Any:
        """A value; `DataError` where this is none."""
        try:
            for entry in plain["new"]:
                self._known.append(self._value(*entry))
            return self._at(plain["value"])
        except (DataError, MemoryError):
            raise
        except Exception as cause:  # whatever a stranger wrote there
            raise DataError(f"a checkpoint holds what it cannot: {type(cause).__name__}") from None

    def _value(self, tag: str, *held: Any) -> Any:
        match tag, held:
            case "s", (value,):
                return value
            case "a", (array, order, writable):
                if not isinstance(array, np.ndarray) or sorted(order) != list(range(array.ndim)):
                    raise DataError("a checkpoint holds an array with other axes than it has")
                found = np.array(array).transpose(np.argsort(order)) if order else np.array(array)
                found.flags.writeable = writable
                return found
            case "T", (number,):
                return _tensor(self._at(number))
            case "L", (items,):
                return items
            case "P", (items,):
                return tuple(items)
            case "l", (numbers,):
                return self._all(numbers)
            case "t", (numbers,):
                return tuple(self._all(numbers))
            case "d", (keys, values):
                return dict(zip(self._all(keys), self._all(values), strict=True))
            case "n", (array,):
                return array[()]
            case "z", (value,):
                return mpz(value)
            case "e", (module, name, member):
                return self._named(module, name, Enum)[member]
            case "k", (module, name):
                return self._named(module, name)
            case "g", (number,):
                state = self._at(number)
                bits: Any = _BITS[state["bit_generator"]]()
                bits.state = state
                return np.random.Generator(bits)
            case "c", (module, name, numbers):
                return _made(self._named(module, name), self._all(numbers))
        raise DataError("a checkpoint holds what it cannot")

    def _all(self, numbers: Iterable[int]) -> list[Any]:
        return [self._at(number) for number in numbers]

    def _at(self, number: int) -> Any:
        if type(number) is not int or not 0 <= number < len(self._known):
            raise DataError("a checkpoint names a value that comes later")
        return self._known[number]

    def _named(self, module: str, name: str, kind: type | None = None) -> Any:
        """A dataclass, or another `kind`, of the project or the run's protocol: nothing else is imported, and
        no attribute of anything else is read.
        """
        top = module.partition(".")[0]
        if not top or top not in self._packages:
            raise DataError(f"a checkpoint names {module}.{name}, which it cannot hold")
        found = sys.modules.get(module) or (importlib.import_module(module) if top == _OURS[0] else None)
        for part in name.split("."):
            found = vars(found).get(part) if found is not None else None
        fits = isinstance(found, type) and (
            issubclass(found, kind) if kind is not None else dataclasses.is_dataclass(found)
        )
        if not fits or typing.cast(type, found).__module__.partition(".")[0] != top:
            raise DataError(f"a checkpoint names {module}.{name}, which is no class here that it can hold")
        return found


def _made(kind: Any, values: list[Any]) -> Any:
    """An object of a dataclass with these fields, which were checked when it was made."""
    fields = dataclasses.fields(kind)
    found: Any = object.__new__(typing.cast(type, kind))
    for each, value in zip(fields, values, strict=True):
        object.__setattr__(found, each.name, value)
    return found


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    with warnings.catch_warnings():  # one that nobody writes to may have come of an array that nobody may
        warnings.simplefilter("ignore")
        return torch.from_numpy(array)
