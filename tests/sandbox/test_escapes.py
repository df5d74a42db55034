"""Every escape we can think of, against the real sandbox: none gets out, none passes, none disturbs the others."""

import re
import socket
from dataclasses import replace
from pathlib import Path

import java_escapes
import java_passes
import pytest
import python_bombs
import python_escapes
from waiting import wait_until

from training.sandbox.containment import LANDLOCK
from training.sandbox.programs import Limits, Program

pytestmark = pytest.mark.sandbox

# Attacks that end need a tenth of it.
LIMITS = Limits(cpu_seconds=0.5, wall_seconds=3, memory_bytes=2**29)
# Of attacks in Python that never end, and spend it.
SHORT = replace(LIMITS, cpu_seconds=0.2)
# What ends by itself meets no limit, however slow or busy the machine is. With the memory of attacks, so that they
# run on the Java machine of the program before them.
PATIENT = replace(LIMITS, cpu_seconds=60, wall_seconds=240)
GOOD = {
    "python": Program("python", "def f(x):\n    return x + 1", "assert f(1) == 2", PATIENT),
    "java": Program("java", "class S { static int f(int x) { return x + 1; } }", java_passes.TEST, PATIENT),
}
BAD = {name: replace(program, source=program.source.replace("x + 1", "x + 2")) for name, program in GOOD.items()}


def replace_words(text, values):
    """Text with the words in capitals replaced by what they stand for."""
    for word, value in values.items():
        text = text.replace(word, value)
    return text


def make_attack(name, statuses, language, text, test):
    limits = SHORT if (language, statuses) == ("python", "timeout") else LIMITS
    return name, set(statuses.split()), Program(language, text, test, limits)


def list_python_attacks(values):
    """(name, right statuses, program) of each attack in Python."""
    forbidden = [*python_escapes.FORBIDDEN_READS, *python_escapes.FORBIDDEN_CALLS]
    attacks = [(name, "failed", python_escapes.make_attack(name), python_escapes.SUCCESS) for name in forbidden]
    for statuses, texts in [*python_bombs.BOMBS.items(), ("failed", python_bombs.FORGERIES)]:
        attacks += [(name, statuses, text, python_bombs.FAILING_TEST) for name, text in texts.items()]
    attacks = [(name, statuses, "python", replace_words(text, values), test) for name, statuses, text, test in attacks]
    return [make_attack(*attack) for attack in attacks]


def list_java_attacks(values, *, harness):
    """(name, right statuses, program) of each attack in Java, with or without those on the harness and the limits."""
    forbidden = replace_words(java_escapes.make_forbidden(), values)
    attacks = [("forbidden", {"failed"}, Program("java", forbidden, java_escapes.TEST, PATIENT))]
    for statuses, bodies in java_escapes.EXITS_AND_BOMBS.items() if harness else ():
        texts = {name: java_escapes.make_program(body) for name, body in bodies.items()}
        attacks += [make_attack(name, statuses, "java", text, java_escapes.TEST) for name, text in texts.items()]
    return attacks


@pytest.fixture(scope="module", params=["python", "java"])
def outcome(request, sandbox, backend, outside):
    """Attacks in one language, run among good and bad programs, with what they got and what was left."""
    language = request.param
    if language == "java":
        request.getfixturevalue("java")
        # Every machine is started anew after an attack, which takes a second: walls in each containment, the rest once.
        attacks = list_java_attacks(outside.values, harness=backend != LANDLOCK)
    else:
        attacks = list_python_attacks(outside.values)
    # A good and a bad program after each, so that each has an attack before it on its worker.
    mixed = [program for *_, attack in attacks for program in (attack, GOOD[language], BAD[language])]
    verdicts = dict(sandbox.run_each(mixed))
    return attacks, [verdicts[index] for index in range(len(verdicts))]


def test_no_attack_succeeds(outcome):
    attacks, verdicts = outcome
    wrong = {
        name: verdict
        for (name, statuses, _), verdict in zip(attacks, verdicts[0::3], strict=True)
        # A slow or busy machine may stop any of them by a time limit.
        if verdict.status not in statuses | {"timeout"}
    }
    assert wrong == {}


def test_all_that_is_forbidden_in_java_was_tried(outcome):
    attacks, verdicts = outcome
    for (name, *_), verdict in zip(attacks, verdicts[0::3], strict=True):
        if name == "forbidden":
            found = re.search(r"succeeded:; refused: (\d+) ", verdict.message)
            # Those that are not refused by an exception say by returning false that they were kept from it.
            assert found and int(found[1]) > len(java_escapes.FORBIDDEN) // 2, verdict


def test_every_other_verdict_is_unchanged(outcome):
    attacks, verdicts = outcome
    good = [name for (name, *_), verdict in zip(attacks, verdicts[1::3], strict=True) if verdict.status != "passed"]
    bad = [name for (name, *_), verdict in zip(attacks, verdicts[2::3], strict=True) if verdict.status != "failed"]
    assert (good, bad) == ([], [])


def test_limits_are_kept(outcome):
    attacks, verdicts = outcome
    # On top of what a process can use until it is seen; the clock also counts what others do on a busy machine.
    spent = [(name, v, program.limits) for (name, _, program), v in zip(attacks, verdicts[0::3], strict=True)]
    late = [name for name, v, limits in spent if v.wall_seconds > limits.wall_seconds + 60]
    greedy = [name for name, v, limits in spent if v.cpu_seconds > limits.cpu_seconds + 2]
    assert (late, greedy) == ([], [])


def test_nothing_outside_was_touched(outcome, outside):
    assert outside.canary.read_text() == "CANARY"
    assert outside.canary.stat().st_mode & 0o777 == 0o666
    assert outside.victim.poll() is None
    assert outside.listeners.visits == []
    assert sorted(path.name for path in outside.folder.iterdir()) == ["canary.txt", "socket"]
    assert [folder for folder in ("/tmp", "/", "/dev/shm", "..") if Path(folder, outside.values["MARK"]).exists()] == []


def test_every_folder_is_empty_again(sandbox, backend):
    look = Program("python", "import os\nfound = os.listdir('.')", "assert found == [], found")
    assert [verdict.message for _, verdict in sandbox.run_each([look] * 8)] == [""] * 8


def test_the_listeners_would_have_noticed(outside, tmp_path):
    listeners = type(outside.listeners)(tmp_path, f"{outside.listeners.abstract}-2")
    for server in listeners.sockets.values():
        with socket.socket(server.family, server.type) as visitor:
            visitor.connect(server.getsockname())
            # A stream is counted when it is opened, and closed at once.
            if server.type == socket.SOCK_DGRAM:
                visitor.send(b"x")
    wait_until(lambda: len(listeners.visits) >= 4)
    listeners.close()
    assert sorted(listeners.visits) == ["abstract", "tcp", "udp", "unix"]
