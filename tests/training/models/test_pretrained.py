"""Pre-trained models from folders, of two architectures; and what is said when the hub does not give one."""

import hashlib
import json
import shutil
from itertools import islice
from unittest.mock import Mock

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_grid import save_model, tiny_grid
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, Qwen2Config

from training.corpus.items import Document
from training.corpus.rows import encode, encode_context, packed_rows
from training.corpus.settings import CorpusSettings
from training.corpus.texts import TextCorpus
from training.grid import rows
from training.grid.bases import load_base
from training.grid.rows import run_corpus
from training.grid.run import run
from training.models import pretrained
from training.models.pretrained import MODELS_VARIABLE, find_model, load_pretrained, on_accelerator, scratch_config
from training.spec.grids import EMBEDDED_POSITIONS, EMBEDDED_VOCABULARY, embedded_size
from training.spec.run import LoopSettings, check_sharding

SIZE = embedded_size(16, 2, 2).model_copy(update={"name": "tiny", "pretrained": "lab/tiny-code"})
PT = {"format": "pt"}


def spec(method, **loop):
    loop = LoopSettings(layout="documents", **loop)
    return tiny_grid(sizes=(SIZE,), methods=(method,), loop=loop, n_validation=4).runs()[0]


def test_a_model_is_moved_only_where_it_does_not_lie_yet(monkeypatch):
    # As bitsandbytes' models are, which some versions of transformers refuse to move, be it to where they are.
    kept = Mock(device=torch.device("cuda", 0), to=Mock(side_effect=ValueError("`.to` is not supported")))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert on_accelerator(kept) is kept


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two folders of models, of StarCoder's architecture and of Llama's, as a lab would have them."""
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "gpt_bigcode" / "lab" / "tiny-code", scratch_config(SIZE))
    shape = {"vocab_size": EMBEDDED_VOCABULARY, "max_position_embeddings": EMBEDDED_POSITIONS, "hidden_size": 16}
    shape |= {"intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    save_model(folder / "llama" / "tiny-code", LlamaConfig(**shape))
    qwen = Qwen2Config(**shape, num_key_value_heads=1, bos_token_id=None, eos_token_id=5)
    save_model(folder / "qwen2" / "tiny-code", qwen)
    return folder


class TestEndOfText:
    """It is what the model's own files call it."""

    @pytest.fixture
    def folder(self, models, tmp_path):
        shutil.copytree(models / "qwen2" / "tiny-code", tmp_path / "model")
        text = (tmp_path / "model" / "tokenizer.json").read_text()
        (tmp_path / "model" / "tokenizer.json").write_text(text.replace("<|endoftext|>", "</s>"))
        return tmp_path / "model"

    def end_of(self, folder):
        _, tokenizer, _ = load_pretrained(SIZE.model_copy(update={"pretrained": str(folder)}))
        (row,) = encode(tokenizer, [Document("a", "b")])
        assert row.tokens[-1] == tokenizer.token_to_id("<|endoftext|>")
        return row.tokens[-1]

    def test_of_the_tokenizer_or_of_the_model_where_that_says_nothing_or_by_its_usual_name(self, folder, models):
        assert self.end_of(folder) == 5
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        assert self.end_of(folder) == 0
        assert self.end_of(models / "llama" / "tiny-code") == 0

    def test_a_text_begins_as_the_tokenizer_begins_it(self, folder):
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 7)])
        tokenizer.save(str(folder / "tokenizer.json"))
        _, tokenizer, _ = load_pretrained(SIZE.model_copy(update={"pretrained": str(folder)}))
        (row,) = encode(tokenizer, [Document("a", "b")])
        assert (row.tokens[0], row.n_context, len(row.tokens)) == (7, 2, 4)
        assert encode_context(tokenizer, "a") == list(row.tokens[:2])

    def test_nowhere_is_refused(self, folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": None}))
        with pytest.raises(ValueError, match=r"neither the tokenizer nor .* names an end of text \(eos_token\)"):
            self.end_of(folder)


@pytest.mark.parametrize(
    ("architecture", "method", "base_precision"),
    [("gpt_bigcode", "fft", None), ("gpt_bigcode", "adapterp", "bf16"), ("llama", "lora", "bf16")],
)
def test_a_run_starts_from_a_folder(models, monkeypatch, tmp_path, architecture, method, base_precision):
    monkeypatch.setenv(MODELS_VARIABLE, str(models / architecture))
    settings = {} if base_precision is None else {"base_precision": base_precision}
    record = run(spec(method, **settings), tmp_path / "runs", tmp_path / "cache")
    assert record.val_loss > 0
    folder = models / architecture / ("lab/tiny-code" if architecture == "gpt_bigcode" else "tiny-code")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert record.provenance.spec["base"] == {"pretrained": "lab/tiny-code", "sha256": {"model.safetensors": digest}}
    assert record.provenance.spec["run"]["loop"].get("base_precision") == base_precision
    assert (record.n_params_base == record.n_params_updated) == (method == "fft")


OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def hub(models, monkeypatch, tmp_path):
    """The hub's cache with two commits of one model, the newer one the head, and no network."""
    place = tmp_path / "hub" / "models--lab--tiny-code"
    for commit, value in ((OLD, 1.0), (NEW, 2.0)):
        folder = place / "snapshots" / commit
        shutil.copytree(models / "gpt_bigcode" / "lab" / "tiny-code", folder)
        weights = load_file(folder / "model.safetensors")
        save_file({name: torch.full_like(w, value) for name, w in weights.items()}, folder / "model.safetensors", PT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(NEW)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(("revision", "commit", "value"), [(OLD, OLD, 1), (NEW, NEW, 2), (None, NEW, 2)])
def test_a_revision_reaches_the_hub_and_the_one_found_is_kept(hub, revision, commit, value):
    model, _, which = load_pretrained(SIZE.model_copy(update={"revision": revision}))
    assert which == {"pretrained": "lab/tiny-code", "revision": commit}
    assert next(model.parameters()).unique().tolist() == [value]


def test_a_revision_that_is_not_there_is_said_with_how_to_fetch_it(hub):
    # The client's own errors are recognised.
    unreachable = "the hub (is switched off|cannot be reached)"
    message = f"{unreachable}.* hf download lab/tiny-code --revision {'c' * 40} --local-dir"
    with pytest.raises(ValueError, match=message):
        load_pretrained(SIZE.model_copy(update={"revision": "c" * 40}))


def test_a_downloaded_folder_says_of_which_commit_it_is(models, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(models / "gpt_bigcode" / "lab" / "tiny-code", folder)
    notes = folder / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (notes / f"{name}.metadata").write_text(f"{NEW}\n0123\n1700000000.0\n")
    size = SIZE.model_copy(update={"pretrained": str(folder)})
    for revision in (None, NEW):
        assert load_pretrained(size.model_copy(update={"revision": revision}))[2]["revision"] == NEW
    with pytest.raises(ValueError, match=f"is of commit {NEW}, and the size asks for {OLD}; give a folder"):
        load_pretrained(size.model_copy(update={"revision": OLD}))
    (notes / "config.json.metadata").write_text(f"{OLD}\n0123\n1700000000.0\n")
    assert "sha256" in load_pretrained(size)[2]


def test_a_frozen_base_in_bfloat16_leaves_what_is_updated_in_float32(models, monkeypatch, tmp_path):
    from training.models.tuning import apply_tuning

    monkeypatch.setenv(MODELS_VARIABLE, str(models / "gpt_bigcode"))
    for method in ("lora", "ptuning", "ia3", "adapterh", "parallel"):
        chosen = spec(method, base_precision="bf16")
        model = apply_tuning(load_base(chosen, tmp_path).model, chosen.tuning, seed=0)
        dtypes = {weight.requires_grad: weight.dtype for weight in model.parameters()}
        assert dtypes == {True: torch.float32, False: torch.bfloat16}, method


@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_fewer_bits_need_their_package(models, monkeypatch, tmp_path, precision):
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"'{precision}' needs the package bitsandbytes, which is not installed; pip"):
        load_base(spec("lora", base_precision=precision), tmp_path)
    with pytest.raises(ValueError, match=f"{precision} is not sharded here, .*; choose --base-precision bf16"):
        check_sharding(LoopSettings(base_precision=precision), True)


def test_nf4_is_that_of_qlora(monkeypatch):
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(pretrained, "BitsAndBytesConfig", dict)
    asked = pretrained.weight_arguments("nf4")["quantization_config"]
    assert (asked["bnb_4bit_quant_type"], asked["bnb_4bit_use_double_quant"]) == ("nf4", True)


def test_models_are_found_under_either_name(models, tmp_path):
    for architecture in ("gpt_bigcode", "llama"):
        found = find_model("lab/tiny-code", {MODELS_VARIABLE: str(models / architecture)})
        assert found.endswith("tiny-code")
        assert found.startswith(str(models))
    assert find_model("lab/other", {MODELS_VARIABLE: str(models)}) == "lab/other"
    assert find_model(str(tmp_path), {MODELS_VARIABLE: str(models)}) == str(tmp_path)
    with pytest.raises(ValueError, match="ASTRAIOS_MODELS is '/no/such', which is no folder; name one"):
        find_model("lab/tiny-code", {MODELS_VARIABLE: "/no/such"})


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", "it is gated; accept its licence at https://huggingface.co/lab/tiny-code, then run"),
        ("JSONDecodeError", "the library's own words; give a folder with weights and tokenizer, or run"),
    ],
)
def test_what_the_hub_refuses_is_said_with_what_to_do(monkeypatch, kind, message):
    def refuse(*_, **__):
        raise OSError("the library's own words") from type(kind, (OSError,), {})("a cause")

    monkeypatch.setattr(pretrained, "cached_file", refuse)
    with pytest.raises(ValueError, match=f"{message} .*hf download lab/tiny-code --local-dir DIR/lab/tiny-code .*=DIR"):
        load_pretrained(SIZE)


def test_a_download_that_was_broken_off_is_named(tmp_path, models):
    folder = tmp_path / "half"
    folder.mkdir()
    size = SIZE.model_copy(update={"pretrained": str(folder)})
    with pytest.raises(ValueError, match=r"half has no config\.json; give a folder"):
        load_pretrained(size)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"half has no weights \(\*\.safetensors or \*\.bin\): its download"):
        load_pretrained(size)


class TestRowsOfAText:
    """They lie on the disk, once, and are those that were made of the whole text at a time."""

    @pytest.fixture
    def corpus(self, tmp_path, monkeypatch):
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "stored"))
        texts = [{"prompt": f"Add {n} to x", "completion": f"def solve(x):\n    return x + {n}"} for n in range(60)]
        (tmp_path / "mine.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
        return TextCorpus("mine", tmp_path / "mine.jsonl")

    @pytest.mark.parametrize("split", ["train", "validation"])
    @pytest.mark.parametrize("at_once", [7, 1000])
    def test_are_those_of_the_whole_text(self, corpus, monkeypatch, split, at_once):
        monkeypatch.setattr(rows, "_DRAWN_AT_ONCE", at_once)
        tokenizer = run_corpus(CorpusSettings().label).tokenizer
        stored = rows._rows.__wrapped__(corpus, tokenizer, 1.0, 0, split, 40, 64, "packed")
        documents = [item.document for item in islice(corpus.instructions(0, split), 300)]
        whole = packed_rows(encode(tokenizer, documents), 64)[:40]
        assert len(stored) == len(whole)
        for one, other in zip(stored, whole, strict=True):
            assert all(map(np.array_equal, one, other))

    def test_are_made_once(self, corpus, monkeypatch):
        tokenizer = run_corpus(CorpusSettings().label).tokenizer
        arguments = (corpus, tokenizer, 1.0, 0, "train", 40, 64, "packed")
        first = rows._rows.__wrapped__(*arguments)
        monkeypatch.setattr(rows, "encode", None)
        assert np.array_equal(rows._rows.__wrapped__(*arguments)[39].tokens, first[39].tokens)
        with pytest.raises(Exception, match=r"'NoneType' object is not callable|generating"):
            rows._rows.__wrapped__(*arguments[:3], 1, *arguments[4:])
