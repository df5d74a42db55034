"""Mapping files: what was decided in an import, as TOML that the next import of the same kind reads."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from astraios_analysis.records.reading import read_toml
from astraios_analysis.records.refusal import Refusal, fail

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HEAD = "# How these runs were imported. Again: astraios import {form} FILE... --map {name} --out DIR\n"
_READ = "\n# What was read:"


def read_mappings(paths: Sequence[Path], known: Mapping[str, type], form: str) -> tuple[dict[str, object], str]:
    """Return the options in mapping files, of which later ones go before, and the format that the last one names.

    The last one need not exist yet: it is the one that is written.
    """
    options, written = {}, form
    for path in paths:
        if path.exists() or path != paths[-1]:
            content, written = _read(path, known, form)
            options = merge(options, content)
    return options, written


def _read(path: Path, known: Mapping[str, type], form: str) -> tuple[dict[str, object], str]:
    """Return the options in a mapping file, and the format that it names.

    ``known`` are the types of options by name: a file that another kind of import wrote, or with an option that this
    one does not have, is refused.
    """
    content = read_toml(path)
    written = content.pop("format", form)
    if written != form and form != "auto":
        raise fail(path, f"is that of another import: astraios import {written}", "format")
    for name, value in content.items():
        if name not in known:
            raise fail(path, f"is no option of this import; choose from {', '.join(sorted(known))}", name)
        if not isinstance(value, known[name]) or (isinstance(value, bool) and known[name] is not bool):
            raise fail(path, f"is {value!r}; it must be a {known[name].__name__}", name)
    return content, written


def merge(first: Mapping[str, object], second: Mapping[str, object]) -> dict[str, object]:
    """Return options of which the second go before; tables are put together."""
    merged = dict(first)
    for name, value in second.items():
        old = merged.get(name)
        merged[name] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def write_mapping(path: Path, form: str, options: Mapping[str, object], decided: Sequence[str]) -> None:
    """Write the options, and as comments what was read of each run, chosen and left out.

    Where these options stand there already, so do the words of whoever wrote them.
    """
    end = [_READ, *(f"# {line}" for line in decided)]
    if path.exists():
        plain = {name: [*value] if isinstance(value, tuple) else value for name, value in options.items()}
        if {"format": form, **plain} == {"format": form, **read_toml(path)}:
            head = path.read_text("utf-8").partition(_READ)[0]
            _write(path, [head.rstrip("\n"), *end])
            return
    lines = [_HEAD.format(name=path.name, form=form), f"format = {_value(form)}"]
    lines += [f"{_key(name)} = {_value(value)}" for name, value in options.items() if not isinstance(value, dict)]
    for name, table in options.items():
        if not isinstance(table, dict) or not table:
            continue
        flat = {key: value for key, value in table.items() if not isinstance(value, dict)}
        nested = {key: value for key, value in table.items() if isinstance(value, dict)}
        lines += [f"\n[{_key(name)}]"] if flat else []
        lines += [f"{_key(key)} = {_value(value)}" for key, value in flat.items()]
        for key, inner in nested.items():
            lines += [f"\n[{_key(name)}.{_key(key)}]"]
            lines += [f"{_key(field)} = {_value(value)}" for field, value in inner.items()]
    _write(path, [*lines, *end])


def _write(path: Path, lines: Sequence[str]) -> None:
    try:
        path.write_text("\n".join(lines) + "\n", "utf-8")
    except OSError as error:
        raise fail(path, f"cannot be written ({error.strerror}); choose another file with --map") from error


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: object) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if not isinstance(value, str | Path):
        raise Refusal(f"{value!r} cannot stand in a mapping file")
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text) + '"'
