import platform

import pytest

from training.grid.estimates import (
    GIB,
    Gpu,
    available_memory,
    estimate_memory,
    needed_bytes,
    place,
    processor_name,
    unfinished,
    visible_gpus,
)
from training.spec.files import record_path
from training.spec.grids import preset

LISTED = "0, GPU-a, 81000\n1, GPU-b, 2000\n2, GPU-c, 81000\n"
SMOKE = preset("smoke").runs()
PUBLISHED = preset("starcoderbase").runs(sizes=["16b"], methods=["lora"])


@pytest.mark.parametrize(
    ("visible", "names"),
    [(None, ["0", "1", "2"]), ("2,0", ["2", "0"]), ("GPU-c", ["GPU-c"]), ("", []), ("-1", []), ("0,7,1", ["0"])],
)
def test_visible_gpus_are_those_that_cuda_would_count(visible, names):
    assert [gpu.index for gpu in visible_gpus(LISTED, visible)] == names


def test_free_memory_of_gpus_and_of_the_machine_is_in_bytes():
    assert visible_gpus(LISTED, "1") == (Gpu("1", 2000 * 2**20),)
    assert visible_gpus("No devices were found\n", None) == ()
    found = available_memory()
    assert found is None or found > 2**20


def test_a_run_from_scratch_needs_what_its_base_needs():
    spec = preset("mini").runs(methods=["ia3"])[-1]
    assert needed_bytes(spec) > estimate_memory(spec.size, spec.tuning, spec.schedule, spec.loop).total


def test_as_many_workers_as_memory_has_room_for():
    need = max(needed_bytes(spec) for spec in SMOKE)
    assert place(SMOKE, 4, (), None) == (None,) * 4
    assert place(SMOKE, 4, (), 100 * GIB) == (None,) * 4
    assert place(SMOKE, 4, (), 2.5 * need) == (None,) * 2


def test_every_gpu_gets_a_worker_before_any_gets_a_second():
    gpus = visible_gpus(LISTED, None)
    assert place(SMOKE, 3, gpus, None) == ("0", "1", "2")
    assert place(SMOKE, 5, gpus, None) == ("0", "1", "2", "0", "1")


def test_a_run_that_does_not_fit_is_named_with_what_would_do():
    with pytest.raises(
        ValueError, match=r"16b-lora-.* does not fit: needs .* GiB, has 24: use .*--base-precision int8"
    ):
        place(PUBLISHED, 1, (), 24 * GIB)
    with pytest.raises(ValueError, match=r"does not fit: needs .* has 80: use --micro-batch \d.*--no-memory-check"):
        place(PUBLISHED, 2, (Gpu("0", 80 * GIB),), None)
    with pytest.raises(ValueError, match=r"does not fit: needs \S+ GiB, has 0\.1: use"):
        place(SMOKE, 1, (), 0.1 * GIB)


def test_finished_runs_need_nothing(tmp_path):
    record_path(tmp_path, SMOKE[0].run_id).write_text("{}")
    assert unfinished(SMOKE, tmp_path) == list(SMOKE[1:])


def test_name_of_the_processor_is_the_first_of_those_listed():
    assert processor_name("processor\t: 0\nmodel\t\t: 17\nmodel name\t: Fast 9\nmodel name\t: Slow 1\n") == "Fast 9"
    assert processor_name("processor\t: 0\nCPU part\t: 0xd0c\n") == platform.machine()
    assert processor_name()
