"""Options of commands, made from the settings that they set."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.markup import escape

from wsi_engine.config import RunSettings, setting_of
from wsi_engine.errors import SettingsError

FOUND, DONE = "What is found", "How it is done"
"""Headings of the options that change the result, and of the others."""


def takes_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the options of some settings.

    They take the place of its ``**settings``, by which it gets their values as
    `wsi_engine.config.make_settings` takes them; ``None`` for those that were not given.

    Parameters
    ----------
    names
        Names of fields of `RunSettings`, in the order of ``--help``.
    """
    fields = {name: RunSettings.model_fields[name] for name in names}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        made = [_parameter(name, field) for name, field in fields.items()]
        # First, as the headings of options come in the order in which they are met.
        parameters = made + [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in signature.parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]

        @functools.wraps(command)
        def wrapped(**given: Any) -> None:
            values = {name: _value(name, field, given[name]) for name, field in fields.items()}
            command(**given | values)

        wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return wrapped

    return decorate


def option_name(name: str) -> str:
    """Spell a setting as an option, such as ``--tile-size``."""
    return f"--{name.replace('_', '-')}"


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    kinds, words = _kinds(field), _words(field)
    is_list = get_origin(field.annotation) in (tuple, dict)
    spelling = option_name(name)
    if kinds == {bool}:
        spelling += f"/{option_name('no_' + name)}"
    kind: Any = str if words or is_list else next(iter(kinds))
    if is_list:
        kind = list[kind]
    option = typer.Option(
        spelling,
        help=_help(field),
        metavar="INTEGER|TEXT" if words and int in kinds else None,
        rich_help_panel=FOUND if setting_of(field).changes_result else DONE,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def _help(field: FieldInfo) -> str:
    """Say what a setting is, its unit, its words if there are only some, and its default."""
    setting, words = setting_of(field), _words(field)
    text = f"{setting.help}, in {setting.unit}" if setting.unit else setting.help
    if int in _kinds(field) and words:
        text += f", or {' or '.join(words)}"
    elif words:
        text += f": {', '.join(words)}"
    if get_origin(field.annotation) in (tuple, dict):
        text += "; can be repeated"
    default = _shown(field.default)
    return f"{text}." + (f" [dim]{escape(f'[default: {default}]')}[/dim]" if default else "")


def _value(name: str, field: FieldInfo, given: Any) -> Any:
    """Return what was given as the setting takes it; whether it is valid is checked there."""
    words = _words(field)
    if isinstance(given, list) and get_origin(field.annotation) is dict:
        pairs = [text.partition("=") for text in given]
        if not all(key and equals for key, equals, _ in pairs):
            raise SettingsError(f"{option_name(name)} {' '.join(given)}: give NAME=VALUE")
        return {key: value for key, _, value in pairs} or None
    if isinstance(given, list):
        return tuple(given) or None
    if given in words:
        return _literals(field)[words.index(given)]
    if int not in _kinds(field) or not words or given is None:
        return given
    if not given.isdecimal() or int(given) < 1:
        choices = ", or ".join(["a whole number from 1", *words])
        raise SettingsError(f"{option_name(name)} {given}: give {choices}")
    return int(given)


def _members(annotation: Any) -> list[Any]:
    """Take a type apart: its alternatives, or what a tuple of it holds, but for ``None``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _members(arguments[0])
    if origin in (Union, UnionType):
        return [member for argument in arguments for member in _members(argument)]
    if origin in (tuple, dict):
        return _members(arguments[0])
    return [] if annotation is NoneType else [annotation]


def _kinds(field: FieldInfo) -> set[Any]:
    """Return the plain types that a setting takes."""
    return {kind for kind in _members(field.annotation) if get_origin(kind) is not Literal}


def _words(field: FieldInfo) -> list[str]:
    """Return the words that a setting takes, if there are only some."""
    return [str(value) for value in _literals(field)]


def _literals(field: FieldInfo) -> list[Any]:
    """Return the values that a setting takes, if there are only some."""
    literals = [kind for kind in _members(field.annotation) if get_origin(kind) is Literal]
    return [value for literal in literals for value in _flat(literal)]


def _flat(literal: Any) -> list[Any]:
    """Return the values of a ``Literal``, of those within it as well."""
    return [
        word
        for part in get_args(literal)
        for word in (_flat(part) if get_origin(part) is Literal else [part])
    ]


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return ", ".join(default)
    return "" if default is None or default == {} else str(default)
