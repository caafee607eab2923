"""Extras: the optional groups of a distribution's requirements, as its metadata names them (``zipeft[llm]``).

Which extra a plug-in needs is written behind its entry point in ``pyproject.toml``, as in
``llama = "zipeft.backbones.llama:Llama [llm]"``; what an extra brings, in its list of requirements, and nowhere else.
This module imports nothing but the packaging library.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def missing(owner: Distribution, extras: Iterable[str]) -> list[str]:
    """Return the requirements of a distribution's extras that are not installed, by name."""
    lacking = []
    for extra in extras:
        for requirement in _requirements(owner, extra):
            if canonicalize_name(requirement.name) == canonicalize_name(owner.metadata["Name"]):
                lacking += missing(owner, sorted(requirement.extras))
            elif not _is_installed(requirement.name):
                lacking.append(requirement.name)
    return lacking


def lacking(owner: Distribution) -> list[str]:
    """Return the requirements of a distribution itself, without extras, that are not installed, by name."""
    required = map(Requirement, owner.requires or ())
    own = [each for each in required if each.marker is None or each.marker.evaluate({"extra": ""})]
    return [each.name for each in own if not _is_installed(each.name)]


def how_to_install(owner: Distribution, extras: Iterable[str]) -> str:
    """Return the command that installs a distribution's extras: "pip install 'zipeft[llm]'"."""
    return f"pip install '{owner.metadata['Name']}[{','.join(extras)}]'"


def needed_for(module: str) -> str | None:
    """Say what to install for a module that cannot be found; None where no extra of zipeft brings it.

    The metadata of a distribution that is not there cannot say which modules it has: its name is the module's own, or
    begins with it (``open_clip`` is of ``open_clip_torch``).
    """
    try:
        owner = distribution("zipeft")
    except PackageNotFoundError:
        return None
    wanted = canonicalize_name(module.partition(".")[0])
    for extra in owner.metadata.get_all("Provides-Extra", ()):
        for requirement in _requirements(owner, extra):
            if f"{canonicalize_name(requirement.name)}-".startswith(f"{wanted}-"):
                return f"this needs {module}, which the extra {extra} brings: {how_to_install(owner, [extra])}"
    return None


def _requirements(owner: Distribution, extra: str) -> Iterator[Requirement]:
    """Yield what an extra adds to a distribution's requirements on this machine."""
    for requirement in map(Requirement, owner.requires or ()):
        marker = requirement.marker
        if marker and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
            yield requirement


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
