import csv

import pytest

from training.models.counts import count_embedding_parameters, count_parameters
from training.models.pretrained import empty_model, folder_config, size_config
from training.spec.grids import preset
from training.spec.run import closed_form_counts


@pytest.fixture(scope="module")
def counts():
    runs = preset("starcoderbase").runs()
    return {(run.size.name, run.tuning.method): count_parameters(size_config(run.size), run.tuning) for run in runs}


def test_closed_forms_give_the_same_counts_without_a_model(counts):
    for run in preset("starcoderbase").runs():
        assert closed_form_counts(run.size, run.tuning) == counts[run.size.name, run.tuning.method]
    for run in preset("ladder").runs(seeds=[0]):
        assert closed_form_counts(run.size, run.tuning) == count_parameters(size_config(run.size), run.tuning)


def test_counts_equal_the_released_table(counts, released_folder):
    with (released_folder / "parameter_counts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 28
    columns = ("n_params", "n_params_base", "n_params_base_nonembedding", "n_params_updated")
    for row in rows:
        count = counts[row["size"], row["method"]]
        assert {name: int(row[name]) for name in columns} == {name: getattr(count, name) for name in columns}
    # As the study prints it, and of what is updated whole.
    percentages = [round(counts[size, "lora"].percent_updated, 4) for size in ("1b", "3b", "7b", "16b")]
    assert percentages == [0.3145, 0.2417, 0.1699, 0.1144]
    assert counts["1b", "fft"].percent_updated == 100


def test_untied_head_counts_as_embedding(config_of):
    config = config_of("llama")
    model = empty_model(config)
    assert count_embedding_parameters(model) == 2 * config.vocab_size * config.hidden_size
    config.tie_word_embeddings = True
    assert count_embedding_parameters(empty_model(config)) == config.vocab_size * config.hidden_size


def test_folder_config_names_what_is_wrong_with_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"does not exist; give a local folder with a config\.json"):
        folder_config(tmp_path / "none")
    with pytest.raises(ValueError, match=r"has no config\.json; save the model with save_pretrained"):
        folder_config(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="give the base model's folder instead"):
        folder_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as a model configuration"):
        folder_config(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match="describes a model of type 'vit', which is not a causal language model"):
        folder_config(tmp_path)
