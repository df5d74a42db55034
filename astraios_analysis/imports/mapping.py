"""Mapping files: what was decided in an import, as TOML that the next import of the same kind reads."""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from astraios_analysis.imports.inputs import read_options
from astraios_analysis.records.notation import toml_lines
from astraios_analysis.records.reading import read_toml
from astraios_analysis.records.refusal import fail

_HEAD = "# How these runs were imported. Again: astraios import {form} FILE... --map {name} --out DIR\n"
_READ = "\n# What was read:"


def read_mappings(paths: Sequence[Path], known: Collection[str], form: str) -> tuple[dict[str, object], str]:
    """Return the options in mapping files, of which later ones go before, and the format that the last one names.

    A file that another kind of import wrote, or with an option that is not ``known`` to this one, is refused. The last
    one need not exist yet: it is the one that is written.
    """
    options, written = {}, form
    for path in paths:
        if not path.exists() and path == paths[-1]:
            # Before records are: what is refused leaves nothing behind.
            if not path.parent.is_dir():
                raise fail(path, "cannot be written: its folder is not there; make it, or choose another with --map")
            continue
        content = read_toml(path)
        written = content.pop("format", form)
        if written != form and form != "auto":
            raise fail(path, f"is that of another import: astraios import {written}", "format")
        for name in content:
            if name not in known:
                raise fail(path, f"is no option of this import; choose from {', '.join(sorted(known))}", name)
        read_options(content, path)
        options = merge(options, content)
    return options, written


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
    lines = toml_lines({"format": form, **options})
    if path.exists() and tomllib.loads("\n".join(lines)) == {"format": form, **read_toml(path)}:
        head = path.read_text("utf-8").partition(_READ)[0].rstrip("\n")
    else:
        head = "\n".join([_HEAD.format(name=path.name, form=form), *lines])
    try:
        path.write_text("\n".join([head, _READ, *(f"# {line}" for line in decided)]) + "\n", "utf-8")
    except OSError as error:
        raise fail(path, f"cannot be written ({error.strerror}); choose another file with --map") from error
