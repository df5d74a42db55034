"""What is said when the hub does not give a model or a data set: why, what to download and where to put it."""

import re
from collections.abc import Iterator
from typing import Literal

Kind = Literal["model", "data set"]

_PAGES = {"model": "https://huggingface.co/{name}", "data set": "https://huggingface.co/datasets/{name}"}
_OPTIONS = {"model": "", "data set": " --repo-type dataset"}
_UNREACHABLE = {"LocalEntryNotFoundError", "HfHubHTTPError", "ConnectionError", "ConnectError", "TransportError"}


def hub_advice(kind: Kind, name: str, variable: str, error: BaseException) -> str:
    """Return why something on the hub cannot be had, and what to do about it.

    Parameters
    ----------
    kind : {"model", "data set"}
        What was asked for.
    name : str
        Its name on the hub.
    variable : str
        Environment variable that names the folder in which such things lie under their hub names.
    error : BaseException
        What the library that reads the hub raised.

    Returns
    -------
    str
        The reason, the command that downloads it, and where it is looked for.
    """
    fetch = f"hf download {name}{_OPTIONS[kind]} --local-dir DIR/{name}"
    place = f"and set {variable}=DIR"
    elsewhere = f"where there is a network, run {fetch}, copy the folder to this machine {place}"
    kinds = _kinds(error)
    if "GatedRepoError" in kinds:
        page = _PAGES[kind].format(name=name)
        return f"it is gated; accept its licence at {page}, then run hf auth login and {fetch} {place}"
    if "RepositoryNotFoundError" in kinds:
        return f"the hub has no such public {kind}; correct the name, or run hf auth login and {fetch} {place}"
    if "OfflineModeIsEnabled" in kinds:
        return f"the hub is switched off (HF_HUB_OFFLINE) and the {kind} is not in its cache; {elsewhere}"
    if kinds & _UNREACHABLE:
        return f"the hub cannot be reached from here; {elsewhere}"
    whole = "a folder with weights and tokenizer" if kind == "model" else "a folder with all of its files"
    return f"{reason_of(error)}; give {whole}, or run {fetch} {place}"


def _kinds(error: BaseException) -> set[str]:
    # By their names: the hub's client, which raises them, is no dependency of this project but of its libraries.
    kinds = {kind.__name__ for cause in _causes(error) for kind in type(cause).__mro__}
    # The library of data sets cuts its errors off from their causes and only tells of them.
    kinds.update(re.findall(r"\((\w+)\)$", str(error).strip()))
    if "DatasetNotFoundError" in kinds:
        kinds.add("GatedRepoError" if "gated" in str(error) else "RepositoryNotFoundError")
    return kinds


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    # transformers wraps the hub's own errors, sometimes twice.
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def reason_of(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
