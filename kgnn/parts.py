"""Parts by name, by class, by instance or by import string: one way to find them, one text for an unknown name."""

import difflib
import inspect
import math
import numbers
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from kgnn.errors import InputError


def resolve(part: Any, table: Mapping[str, Any], kind: str) -> Any:
    """Return what a name of `table` or an import string `"package.module:Name"` stands for; anything else as it is.

    Raises:
        InputError: an unknown name, with those that are near; an import string that leads nowhere.
    """
    if not isinstance(part, str):
        return part
    if ":" in part:
        return import_part(part)
    if part not in table:
        named = f"choose {', '.join(table)}, or " if table else ""
        raise InputError(
            f"unknown {kind} {part!r}{did_you_mean(part, table)}; {named}give a class, an instance or "
            "'package.module:Name'"
        )
    return table[part]


def import_part(text: str) -> Any:
    """Return the class, function or instance that `"package.module:Name"` names; the working folder comes last."""
    module, _, name = text.partition(":")
    search_too(Path.cwd())
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InputError(f"{text!r} cannot be imported: {error}; write package.module:Name") from None
    return found


def search_too(folder: str | Path) -> None:
    """Let import strings be found in a folder, after everything else."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def name_of(part: Any) -> str:
    """What a part is called: its name in a table, else `package.module:Name` of its class."""
    if isinstance(part, str):
        return part
    kind = part if inspect.isclass(part) or inspect.isfunction(part) else type(part)
    return f"{kind.__module__}:{kind.__qualname__}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean A or B?` where known names are near, else nothing."""
    by_lower = {str(other).lower(): str(other) for other in known}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=3, cutoff=0.75)
    return f"; did you mean {' or '.join(by_lower[other] for other in near)}?" if near else ""


def is_number(value: Any, *, whole: bool = False) -> bool:
    """Whether a value is a number (a whole one), and no truth value."""
    return isinstance(value, numbers.Integral if whole else numbers.Real) and not isinstance(value, bool)


def expect(value: Any, kind: type, what: str) -> None:
    """Refuse an argument of another type than the one asked for.

    Raises:
        InputError: names both types.
    """
    if not isinstance(value, kind):
        raise InputError(f"{what}: {type(value).__name__} where {kind.__name__} is asked for")


def check_number(
    value: Any, name: str, low: float = -math.inf, high: float = math.inf, *, whole: bool = False, hint: str = ""
) -> None:
    """Refuse an option that is no number, or none from `low` to `high`.

    Raises:
        InputError: names the option, its value, what it must be, and the hint.
    """
    if not is_number(value, whole=whole) or not low <= value <= high:
        kind = "whole number" if whole else "number"
        span = f" of {low:g} or more" if math.isfinite(low) else ""
        span = f" from {low:g} to {high:g}" if math.isfinite(high) else span
        raise InputError(f"{name} = {value!r}; it must be a {kind}{span}{'; ' if hint else ''}{hint}")


def options_of(function: Callable[..., Any]) -> list[str]:
    """Names of the options that a function or a class takes by keyword."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name != "self"]


def taken(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that a function takes by name: all, where it has `**options` of its own."""
    parameters = inspect.signature(function).parameters.values()
    takes = options if any(p.kind is p.VAR_KEYWORD for p in parameters) else options_of(function)
    return {name: value for name, value in options.items() if name in takes}


def check_call(function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Refuse a class or function of one's own that cannot be called so, before it is."""
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError as error:
        raise InputError(f"{name_of(function)} cannot be called as it must be: {error}; see docs/extend.md") from None


def check_options(options: Iterable[str], known: Collection[str], owner: str) -> None:
    """Refuse an option that its owner would not use.

    Raises:
        InputError: names the option, what is near, and what there is.
    """
    for name in options:
        if name not in known:
            has = f"it takes {', '.join(known)}" if known else "it takes none"
            raise InputError(f"{owner} has no option {name!r}{did_you_mean(name, known)}; {has}")
