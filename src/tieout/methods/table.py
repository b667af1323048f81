"""The methods that are known by name, and the resolver of names: one for the command line, recipes and Python."""

from __future__ import annotations

from dataclasses import MISSING, fields
from importlib import import_module
from inspect import isabstract, isclass

from ..config.attribute import load_attribute
from ..config.method_table import TABLE, check_name
from ..errors import InputError
from .method import Method

METHODS: dict[str, type[Method]] = {
    name: getattr(import_module(f".{file}", __package__), cls)
    for name, (file, _, cls) in ((name, named.place.partition(":")) for name, named in TABLE.items())
}
"""Name -> class: the names that `tieout train` and recipes accept."""


def load_method(name: str) -> type[Method]:
    """A method by its name in METHODS, or your own as `FILE.py:Class` or `package.module:Class`.

    Raises:
        InputError: an unknown name (the nearest is named), or a class that is not a complete method (what it lacks).
    """
    if name in METHODS:
        return METHODS[name]
    check_name(name)
    return _checked(load_attribute(name), name)


def _checked(found: object, name: str) -> type[Method]:
    """The class, if it is a method with nothing missing."""
    if not isclass(found):
        raise InputError(f"method {name!r} is a {type(found).__name__}; expected a class")
    required = sorted(Method.__abstractmethods__)
    if not issubclass(found, Method):
        lacking = [part for part in required if not hasattr(found, part)]
        lacks = f", and lacks {', '.join(lacking)}" if lacking else ""
        raise InputError(f"method {name!r} is not a subclass of tieout.methods.Method{lacks}")
    if isabstract(found):
        raise InputError(
            f"method {name!r} lacks {', '.join(sorted(found.__abstractmethods__))}; a method defines "
            f"{', '.join(required)}"
        )
    if "__dataclass_fields__" not in vars(found):
        raise InputError(f"method {name!r} is not a dataclass: put @dataclass(frozen=True) above the class")
    bare = [f.name for f in fields(found) if f.default is MISSING and f.default_factory is MISSING]
    if bare:
        raise InputError(
            f"method {name!r}: give a default to {', '.join(bare)}; every field of a method has one"
        )
    return found
