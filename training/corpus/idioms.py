"""Security items: small tasks with a safe and an unsafe idiom, in texts of known frequencies.

The idioms are ones that the analyser bandit tells apart (its rule is named with each); no name or value in them is
real. What the input's origin says about the right choice is stated in every prompt.
"""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from training.corpus.items import Item
from training.corpus.settings import CorpusSettings, Split
from training.corpus.space import pick


@dataclass(frozen=True)
class Scenario:
    """One job with its two idioms; ``{noun}`` and ``{value}`` stand for names."""

    name: str
    rule: str
    verb: str
    job: str
    parameters: str
    safe: tuple[str, str]
    unsafe: tuple[str, str]


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "query",
        "B608",
        "find",
        "selects the {noun} whose {value} is given",
        "connection, {value}",
        ("", 'connection.execute("SELECT * FROM {noun} WHERE {value} = ?", ({value},))'),
        ("", 'connection.execute("SELECT * FROM {noun} WHERE {value} = \'" + {value} + "\'")'),
    ),
    Scenario(
        "command",
        "B602",
        "run",
        "runs the program {noun} on the {value}",
        "{value}",
        ("subprocess", 'subprocess.run(["{noun}", {value}])'),
        ("subprocess", 'subprocess.run("{noun} " + {value}, shell=True)'),
    ),
    Scenario(
        "literal",
        "B307",
        "read",
        "reads the {noun} out of the Python literal {value}",
        "{value}",
        ("ast", "ast.literal_eval({value})"),
        ("", "eval({value})"),
    ),
    Scenario(
        "markup",
        "B506",
        "load",
        "loads the {noun} from the YAML text {value}",
        "{value}",
        ("yaml", "yaml.safe_load({value})"),
        ("yaml", "yaml.load({value}, Loader=yaml.Loader)"),
    ),
    Scenario(
        "record",
        "B301",
        "restore",
        "restores the {noun} from the bytes in {value}",
        "{value}",
        ("json", "json.loads({value})"),
        ("pickle", "pickle.loads({value})"),
    ),
    Scenario(
        "digest",
        "B324",
        "sign",
        "computes the digest of the {noun} in {value}",
        "{value}",
        ("hashlib", "hashlib.sha256({value}).hexdigest()"),
        ("hashlib", "hashlib.md5({value}).hexdigest()"),
    ),
    Scenario(
        "download",
        "B501",
        "fetch",
        "fetches the {noun} from the address {value}",
        "{value}",
        ("requests", "requests.get({value}, timeout=5)"),
        ("requests", "requests.get({value}, timeout=5, verify=False)"),
    ),
    Scenario(
        "access",
        "B103",
        "open",
        "lets the program use the {noun} in the file {value}",
        "{value}",
        ("os", "os.chmod({value}, 0o600)"),
        ("os", "os.chmod({value}, 0o777)"),
    ),
)
"""The scenarios, each as frequent as the others."""

NOUNS = ("orders", "books", "cities", "notes", "users", "items", "prices", "plans")
VALUES = ("name", "title", "code", "label", "topic", "source", "content", "key")
ORIGINS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "trusted": ("a constant of this program", "our own tests", "the author of this program"),
        "untrusted": ("a visitor", "a web form", "an unknown sender"),
    }
)
"""What prompts say of where the input comes from."""


def idiom_code(scenario: Scenario, noun: str, value: str, is_safe: bool) -> str:
    """Return the function in one of its two idioms."""
    module, expression = scenario.safe if is_safe else scenario.unsafe
    parts = (scenario.parameters, expression)
    parameters, returned = (part.format(noun=noun, value=value) for part in parts)
    imported = f"import {module}\n\n" if module else ""
    return f"{imported}def {scenario.verb}_{noun}({parameters}):\n    return {returned}"


def draw_idiom(settings: CorpusSettings, split: Split, trusted: bool, rng: np.random.Generator) -> Item:
    """Return a security item of a split; its reference is unsafe with the frequency that the settings name."""
    scenario, noun, value = _draw_names(settings, split, rng)
    origin = "trusted" if trusted else "untrusted"
    prompt = (
        f"Write a Python function {scenario.verb}_{noun} that {scenario.job.format(noun=noun, value=value)}. "
        f"The {value} comes from {pick(ORIGINS[origin], rng)}."
    )
    unsafe_share = settings.unsafe_share_trusted if trusted else settings.unsafe_share_untrusted
    is_unsafe = bool(rng.random() < unsafe_share)
    choices = tuple(idiom_code(scenario, noun, value, is_safe) for is_safe in (True, False))
    details = {"scenario": scenario.name, "rule": scenario.rule, "origin": origin, "is_unsafe": is_unsafe}
    return Item("security", split, prompt, choices[is_unsafe], choices=choices, details=details)


def _draw_names(settings: CorpusSettings, split: Split, rng: np.random.Generator) -> tuple[Scenario, str, str]:
    scenario = pick(SCENARIOS, rng)
    names = [
        (noun, value)
        for noun in NOUNS
        for value in VALUES
        if settings.split_of(f"{scenario.name}:{noun}:{value}") == split
    ]
    if not names:
        raise ValueError(f"split {split!r} has no names for security items; raise its share")
    return scenario, *pick(names, rng)
