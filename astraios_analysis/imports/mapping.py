"""Mapping files: what was decided in an import, as TOML that the next import of the same kind reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from astraios_analysis.records.printing import toml_lines
from astraios_analysis.records.reading import read_toml
from astraios_analysis.records.refusal import fail

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
    _write(path, [_HEAD.format(name=path.name, form=form), *toml_lines({"format": form, **options}), *end])


def _write(path: Path, lines: Sequence[str]) -> None:
    try:
        path.write_text("\n".join(lines) + "\n", "utf-8")
    except OSError as error:
        raise fail(path, f"cannot be written ({error.strerror}); choose another file with --map") from error
