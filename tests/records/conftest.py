"""The released tables: as one table, and reduced to two models."""

import gzip

import pytest

from astraios_analysis.records.frame import to_frame

TABLES = ("scores.csv", "problem_counts.csv.gz", "parameter_counts.csv")
MODELS = ("1b,fft,", "1b,lora,")


@pytest.fixture(scope="session")
def table(released_records):
    """All scores of the released models, each beside its model's name."""
    frame = to_frame(released_records)
    return frame.assign(model=frame["size"] + "-" + frame["method"])


@pytest.fixture(scope="session")
def write_tables(released_folder):
    """Write the tables of two released models into a folder, one of them changed."""
    texts = {}
    for name in TABLES:
        data = (released_folder / name).read_bytes()
        lines = (gzip.decompress(data) if name.endswith("gz") else data).decode().splitlines(keepends=True)
        texts[name] = "".join([lines[0], *(line for line in lines if line.startswith(MODELS))])

    def write(folder, name=None, change=None):
        folder.mkdir(parents=True, exist_ok=True)
        for table, text in texts.items():
            text = change(text) if table == name else text
            data = text if isinstance(text, bytes) else text.encode()
            (folder / table).write_bytes(gzip.compress(data) if table.endswith("gz") else data)
        return folder

    return write
