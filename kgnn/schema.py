"""What JSON must look like: one check for all that is read from files."""

from collections.abc import Mapping
from typing import Any

from kgnn.errors import InputError

Schema = Any  # a type; a tuple of schemas, one of which fits; [schema]; {str: schema}; {"field": schema, …}; None


def check_schema(value: Any, schema: Schema, where: str, at: str = "") -> Any:
    """Return `value`, which looks like `schema`; fields that it has besides are left alone.

    Args:
        schema: a type (`float` takes whole numbers, no number takes a truth value), None, `[schema]` for a list of any
            length, `{str: schema}` for any names, `{"name": schema}` for these, a tuple for one of several.
        where: the file. at: the place in it.

    Raises:
        InputError: names file and place.
    """
    if isinstance(schema, Mapping):
        _check_type(value, dict, where, at)
        fields = dict.fromkeys(value, schema[str]) if str in schema else schema
        for name, part in fields.items():
            if name not in value:
                raise InputError(f"{where}: {at or 'the file'} has no {name!r}; save it again")
            check_schema(value[name], part, where, f"{at}.{name}" if at else name)
    elif isinstance(schema, list):
        _check_type(value, list, where, at)
        for number, part in enumerate(value):
            check_schema(part, schema[0], where, f"{at}[{number}]")
    elif isinstance(schema, tuple):
        if not any(_fits(value, part, where, at) for part in schema):
            raise InputError(f"{where}: {at} is {str(value)[:60]!r}, none of what it may be; save it again")
    elif schema is None:
        _check_type(value, type(None), where, at)
    else:
        _check_type(value, schema, where, at)
    return value


def _fits(value: Any, schema: Schema, where: str, at: str) -> bool:
    try:
        check_schema(value, schema, where, at)
    except InputError:
        return False
    return True


def _check_type(value: Any, kind: type, where: str, at: str) -> None:
    allowed = (int, float) if kind is float else kind
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind in (int, float)):
        raise InputError(
            f"{where}: {at or 'the file'} is {str(value)[:60]!r} ({type(value).__name__}) where {kind.__name__} is "
            "expected; save it again"
        )
