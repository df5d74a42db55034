"""What a run reports while it trains: a progress bar on standard error, and trackers."""

import loop_runs as RUNS
import pytest
from accelerate import tracking
from accelerate.tracking import GeneralTracker
from accelerate.utils import LoggerType

from training.cli.shared import check_trackers
from training.loop.reporting import Reporting

run = RUNS.run


class Recorder(GeneralTracker):
    name = "recorder"
    requires_logging_directory = False
    tracker = None

    def __init__(self):
        super().__init__()
        self.config, self.values, self.is_finished = None, [], False

    def store_init_configuration(self, values):
        self.config = values

    def log(self, values, step=None, **kwargs):
        self.values.append((step, values))

    def finish(self):
        self.is_finished = True


class TestReporting:
    def test_trackers_get_settings_and_values(self):
        recorder = Recorder()
        _, result = run(
            schedule={"steps": 4, "validate_every": 2},
            spec={"grid": "smoke", "size": {"d_model": 16}},
            reporting=Reporting(log_with=(recorder,)),
        )
        assert recorder.config["spec.size.d_model"] == 16
        assert recorder.config["schedule.steps"] == 4
        assert recorder.config["settings.layout"] == "documents"
        assert None not in recorder.config.values()
        assert recorder.is_finished
        trained = {step: values for step, values in recorder.values if "train/loss" in values}
        assert [trained[step]["train/loss"] for step in (1, 2, 3, 4)] == result.train_losses
        assert trained[3]["train/learning_rate"] == 0.02
        validated = {step: values["validation/loss"] for step, values in recorder.values if "validation/loss" in values}
        assert validated == {point.step: point.loss for point in result.curve}

    @pytest.mark.filterwarnings("ignore:.*no supported trackers are currently installed:UserWarning")
    def test_a_missing_tracker_is_an_error(self):
        with pytest.raises(ValueError, match="tracker 'trackio' is not installed; install its package"):
            run(reporting=Reporting(log_with=("trackio",)))

    def test_a_tracker_is_known_by_its_name(self, tmp_path, monkeypatch):
        made = []

        class Known(Recorder):
            """Stands for a tracker of accelerate that is installed and writes files."""

            requires_logging_directory = True

            def __init__(self, run_name, logging_dir):
                super().__init__()
                made.append((run_name, logging_dir, self))

        monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Known)
        monkeypatch.setattr(tracking, "_available_trackers", [LoggerType.TENSORBOARD])
        reporting = Reporting(name="known", log_with=("tensorboard",), folder=tmp_path)
        run(schedule={"steps": 2, "validate_every": 2}, reporting=reporting)
        ((name, folder, tracker),) = made
        assert (name, folder) == ("known", tmp_path)
        assert {step for step, values in tracker.values if "train/loss" in values} == {1, 2}
        check_trackers(["tensorboard"])
        with pytest.raises(ValueError, match="unknown tracker 'paper'; choose from"):
            check_trackers(["paper"])
        with pytest.raises(ValueError, match=r"'wandb' is not installed; install its package \(pip install wandb\)"):
            check_trackers(["wandb"])

    def test_the_bar_goes_to_standard_error_with_loss_speed_and_time_left(self, capsys):
        run(reporting=Reporting(name="smoke-fft", show_progress=True))
        shown = capsys.readouterr()
        assert shown.out == ""
        last = shown.err.split("\r")[-1]
        assert "smoke-fft: 100%" in last
        assert "12/12 [" in last
        for part in ("loss=", "validation=", "tokens/s="):
            assert part in last

    @pytest.mark.parametrize("show_progress", [False, None])
    def test_there_is_no_bar_unless_someone_looks(self, capsys, show_progress):
        run(schedule={"steps": 1, "warmup_steps": 0}, reporting=Reporting(show_progress=show_progress))
        assert capsys.readouterr().err == ""
