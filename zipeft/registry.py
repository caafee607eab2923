"""Plug-ins by name: backbones, tasks, methods and splices that any installed distribution offers through entry points.

The built-in plug-ins are found as a third party's are. A plug-in is imported when it is asked for and not
before, and one that cannot be used is named and stops nothing else. This module imports no torch.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from shlex import quote
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from zipeft import extras
from zipeft.api.backbone import Backbone
from zipeft.api.method import FORMS, Method, form_of
from zipeft.api.task import Task
from zipeft.checkouts import project_with
from zipeft.errors import UserError, described, did_you_mean

if TYPE_CHECKING:
    from zipeft.api.splice import AttentionSplice

T = TypeVar("T")
C = TypeVar("C")


@dataclass(frozen=True)
class PluginInfo:
    """What ``zipeft ls`` shows of one plug-in. ``error`` says why it cannot be used, or is "" where it can."""

    name: str
    summary: str
    origin: str
    value: str
    error: str = ""


@dataclass(frozen=True)
class Named(Generic[T]):
    """A plug-in with its settings, and the name by which users and records know it."""

    name: str
    plugin: T


class Unusable(Exception):
    """Why a plug-in cannot be used, in one line."""


class ExtraMissing(Unusable):
    """A plug-in's distribution is installed without an extra that the plug-in needs."""


class Registry(Generic[T]):
    """The plug-ins of one kind: those of an entry-point group, and those registered in this process."""

    def __init__(self, kind: str, base: type[T] | str) -> None:
        """``base`` is the class that plug-ins derive from, or "module:Class" where that module imports torch."""
        self.kind = kind
        self.group = f"zipeft.{kind}s"
        self._base = base
        self._registered: dict[str, type[T]] = {}
        self._lock = Lock()

    @cached_property
    def base(self) -> type[T]:
        """The class that every plug-in of this kind derives from."""
        return self._base if isinstance(self._base, type) else pkgutil.resolve_name(self._base)

    @cached_property
    def _installed(self) -> dict[str, list[EntryPoint]]:
        """The distinct entry points of every name. More than one is a conflict."""
        found: dict[str, dict[tuple[str, str], EntryPoint]] = {}
        for entry in entry_points(group=self.group):
            # A distribution that is on sys.path twice is one.
            found.setdefault(entry.name, {}).setdefault((entry.value, _distribution(entry)), entry)
        return {name: list(distinct.values()) for name, distinct in found.items()}

    def names(self) -> list[str]:
        """Return all names, sorted, without importing any plug-in."""
        return sorted({*self._installed, *self._registered})

    def get(self, name: str) -> type[T]:
        """Return the class of a name, importing that plug-in alone.

        Raises ``UserError`` for an unknown name, a name that several distributions give, and a plug-in that
        fails to import or is not a concrete subclass of ``base``.
        """
        if name not in self._registered and name not in self._installed:
            raise UserError(self._unknown(name))
        try:
            return self._load(name)
        except ExtraMissing as reason:
            raise UserError(f"the {self.kind} {name} {reason}") from reason.__cause__
        except Unusable as reason:
            origin, value = self._where(name)
            message = f"{self.kind} {name!r} of {origin} ({value}) cannot be used: {reason}"
            raise UserError(message) from reason.__cause__

    def make(self, name: str, settings: Mapping[str, Any] | None = None) -> Named[T]:
        """Return the plug-in of a name with some of its settings, the others at their defaults.

        Raises ``UserError`` as ``get`` does, and whatever the class itself raises for its settings.
        """
        return Named(name, self.get(name)(**(settings or {})))

    @overload
    def register(self, name: str) -> Callable[[type[C]], type[C]]: ...

    @overload
    def register(self, name: str, cls: type[C]) -> type[C]: ...

    def register(self, name: str, cls: type[C] | None = None) -> type[C] | Callable[[type[C]], type[C]]:
        """Add a class for this process alone, as a notebook or a test does, and return it: ``register(name, cls)``, or
        ``@register(name)`` above a class.

        Raises ``UserError`` for a name that is taken and for a class that is not a concrete subclass of ``base``.
        """
        if cls is None:
            return lambda cls: self.register(name, cls)
        try:
            plugin = _check(cls, self.base)
        except Unusable as reason:
            raise UserError(f"{self.kind} {name!r} cannot be registered: {reason}") from None
        with self._lock:
            if name in self._installed or name in self._registered:
                raise UserError(f"{self.kind} {name!r} exists already, from {self._where(name)[0]}; take another name")
            self._registered[name] = plugin
        return cls

    def unregister(self, name: str) -> None:
        """Take back ``register``. Raises ``UserError`` for a name that was not registered in this process."""
        if self._registered.pop(name, None) is None:
            raise UserError(f"{self.kind} {name!r} was not registered in this process")

    def listing(self, pattern: str = "*") -> list[PluginInfo]:
        """Return one row a name, sorted, of the names that match a pattern of the shell's kind ("zero*").

        Imports these plug-ins; one that cannot be used is a row with an error.
        """
        return [self._list(name) for name in self.names() if fnmatchcase(name, pattern)]

    def _list(self, name: str) -> PluginInfo:
        origin, value = self._where(name)
        try:
            return PluginInfo(name, _summary(self._load(name)), origin, value)
        except ExtraMissing as reason:  # nothing is wrong with it
            return PluginInfo(name, str(reason), origin, value, str(reason))
        except Unusable as reason:
            return PluginInfo(name, "", origin, value, str(reason))

    def _load(self, name: str) -> type[T]:
        if name in self._registered:
            return self._registered[name]
        entries = self._installed[name]
        if len(entries) > 1:
            raise Unusable("the name is given more than once; uninstall all but one of these distributions")
        return _check(_import(entries[0]), self.base)

    def _where(self, name: str) -> tuple[str, str]:
        """Return where a name comes from and what it stands for; several of each where they conflict."""
        if name in self._registered:
            cls = self._registered[name]
            return "this process", f"{cls.__module__}:{cls.__qualname__}"
        entries = self._installed[name]
        return " and ".join(map(_distribution, entries)), " and ".join(entry.value for entry in entries)

    def _unknown(self, name: str) -> str:
        names = self.names()
        if not names:
            return f"no {self.kind}s are installed; in a checkout, run `pip install -e .`"
        if project := project_with(self.group, name):
            install = f"pip install -e {quote(str(project.parent))}"
            return f"{self.kind} {name!r} was added to {project}: install again: {install}"
        return f"unknown {self.kind} {name!r}{did_you_mean(name, names)} (zipeft ls lists all)"


class Methods(Registry[Method]):
    """Methods, and of each that images enter its forms for comparison: ``lora_blind``, which is not shown the image,
    and ``lora_unasked``, which is not shown the question."""

    def by_default(self) -> list[str]:
        """Return the names of the methods of a comparison that names none: all but those that are asked for by name.

        Raises ``UserError`` as ``get``.
        """
        return [name for name in self.names() if self.get(name).by_default]

    def get(self, name: str) -> type[Method]:
        whole = self.whole(name)
        method = super().get(whole)
        return method if whole == name else form_of(method, name.removeprefix(f"{whole}_"))

    def whole(self, name: str) -> str:
        """Return the name of the method of which a name is a form; any other name as it is."""
        own, _, form = name.rpartition("_")
        return own if name not in self.names() and form in FORMS and own in self.names() else name


def _distribution(entry: EntryPoint) -> str:
    """Return "name version". Metadata of a damaged installation may lack either."""
    if entry.dist is None:
        return "an unknown distribution"
    metadata = entry.dist.metadata
    return f"{metadata['Name'] or 'an unknown distribution'} {metadata['Version'] or ''}".rstrip()


def needed_extras(entry: EntryPoint) -> list[str]:
    """Return the extras of its own distribution that an entry point names in brackets."""
    found = EntryPoint.pattern.fullmatch(entry.value)  # Python 3.10's own ``extras`` holds matches, no texts
    return re.findall(r"[\w.-]+", found["extras"] or "") if found else []


def _require_extras(entry: EntryPoint) -> None:
    """Raises ``ExtraMissing`` unless all is installed that the extras behind an entry point bring."""
    needed = needed_extras(entry)
    if entry.dist is not None and (lacking := extras.missing(entry.dist, needed)):
        install = extras.how_to_install(entry.dist, needed)
        raise ExtraMissing(f"needs the extra {', '.join(needed)} ({', '.join(lacking)}): {install}")


def _summary(cls: type) -> str:
    """Return the first line of a class's docstring; the signature that ``dataclass`` writes where there is none is
    not a description."""
    doc = inspect.cleandoc(cls.__doc__ or "")
    return "" if doc.startswith(f"{cls.__name__}(") else doc.partition("\n")[0]


def _import(entry: EntryPoint) -> object:
    """Load an entry point. Raises ``Unusable`` where an extra that it needs is missing, and whatever the import raises.

    Not only ``Exception``: a module may call ``sys.exit``, and an extension written in Rust panics with an
    exception of its own that derives from ``BaseException``. Ctrl-C alone stays what it is.
    """
    if not EntryPoint.pattern.fullmatch(entry.value):
        raise Unusable(f"{entry.value!r} is not of the form module:Class")
    _require_extras(entry)
    try:
        return entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise Unusable(described(error)) from error


def _check(plugin: object, base: type[T]) -> type[T]:
    """Return ``plugin``. Raises ``Unusable`` unless it is a subclass of ``base`` that leaves nothing undefined."""
    expected = f"{base.__module__}.{base.__qualname__}"
    if not isinstance(plugin, type):
        raise Unusable(f"it is a {type(plugin).__name__}, not a subclass of {expected}")
    if not issubclass(plugin, base):
        raise Unusable(f"{plugin.__qualname__} is not a subclass of {expected}")
    # Class variables that the base declares and leaves to its subclasses are as needed as its abstract methods.
    settings = {field.name for field in fields(base)} if is_dataclass(base) else set()
    declared = inspect.get_annotations(base).keys() - settings
    undefined = {*getattr(plugin, "__abstractmethods__", ()), *(name for name in declared if not hasattr(plugin, name))}
    if undefined:
        raise Unusable(f"{plugin.__qualname__} does not define {', '.join(sorted(undefined))}")
    return plugin


backbones: Registry[Backbone] = Registry("backbone", Backbone)
tasks: Registry[Task] = Registry("task", Task)
methods = Methods("method", Method)
splices: Registry[AttentionSplice] = Registry("splice", "zipeft.api.splice:AttentionSplice")
