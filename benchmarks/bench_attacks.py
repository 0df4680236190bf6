"""Does anybody else notice when strangers attack, and does memory stay within its bounds?

For each attack a server of its own, with smaller bounds on memory than the defaults. A victim makes round
trips before, during and after; its p99 and its longest during the attack stand beside those without it. What
the server's resident memory grows by stands beside the sum of the bounds that say what the attack may hold,
and afterwards beside what may be kept. A round trip that is refused counts as one without end.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from reactivedb.limits import DEFAULT_LIMITS, MIB

from . import victim
from .attacked.app import LIMITS_VARIABLE
from .attacks import ATTACKS, LIMITS, Attack, carry_out
from .measure import Effort, Figure, at_most, ms, p99
from .processes import ServerProcess, reactive_server
from .without_bounds import LIFTED_VARIABLE

_WARM_UP_S = 0.3
# What the attack left to do counts as the attack's.
_SETTLING_S = 0.3
# A server that answers nobody for this long after the attack is given up.
_RECOVERY_S = 5.0
_MEMORY_EVERY_S = 0.01
_START_S = 120


@dataclass(frozen=True, slots=True)
class Course:
    """What was seen of one attack."""

    attack: Attack
    message_count: int
    cut_off_count: int
    quiet_s: list[float]
    attacked_s: list[float]
    before_bytes: int
    most_bytes: int
    after_bytes: int
    log_bytes: int
    has_recovered: bool


def run(effort: Effort) -> list[Figure]:
    return [figure for attack in ATTACKS for figure in figures_of(course_of(attack, effort))]


def figures_of(course: Course) -> list[Figure]:
    attack, quiet_s, attacked_s = course.attack, course.quiet_s, course.attacked_s
    volume = f"{course.message_count:,} answered, {course.cut_off_count:,} times cut off"
    sign = "" if course.has_recovered else "> "
    grown_bytes = course.most_bytes - course.before_bytes
    kept_bytes = course.after_bytes - course.before_bytes
    figures = [
        Figure(
            f"p99 round trip beside {attack.name}",
            f"{sign}{ms(p99(attacked_s))} ({volume})",
            f"{ms(p99(quiet_s))} without",
            p99(attacked_s) / p99(quiet_s),
            at_most(3),
        ),
        Figure(
            f"longest round trip beside {attack.name}",
            f"{sign}{ms(max(attacked_s))}",
            f"{ms(max(quiet_s))} without",
            max(attacked_s) / max(quiet_s),
            at_most(20),
        ),
        Figure(
            f"memory beside {attack.name}",
            mib(grown_bytes),
            f"{mib(attack.held_bytes)} stated",
            grown_bytes / attack.held_bytes,
            at_most(1.5),
        ),
        Figure(
            f"memory after {attack.name}",
            mib(kept_bytes) if course.has_recovered else "it does not answer any more",
            f"{mib(attack.kept_bytes)} stated",
            kept_bytes / attack.kept_bytes if course.has_recovered else math.inf,
            at_most(1.5),
        ),
    ]
    return [*figures, logged(course)] if attack.is_logged else figures


def logged(course: Course) -> Figure:
    allowed_bytes = max(course.message_count, 1) * DEFAULT_LIMITS.log_line_length_max
    return Figure(
        f"log of {course.attack.name}",
        mib(course.log_bytes),
        f"{mib(allowed_bytes)}, a line for each",
        course.log_bytes / allowed_bytes,
        at_most(1),
    )


def mib(size_bytes: float) -> str:
    return f"{size_bytes / MIB:.1f} MiB"


def course_of(attack: Attack, effort: Effort, *, lifted: Mapping[str, int] | None = None) -> Course:
    """Attack a new server, from which the bounds `lifted` may be taken out."""
    lifted = lifted or {}
    raised = {name: value for name, value in lifted.items() if name.islower()}
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        reactive_server(
            Path(folder) / "data",
            "attacked",
            options=attack.options,
            command="benchmarks.without_bounds" if lifted else "reactivedb",
            environment={
                LIMITS_VARIABLE: json.dumps({**LIMITS, **raised}),
                LIFTED_VARIABLE: json.dumps(lifted),
            },
            log=Path(folder) / "log",
        ) as server,
    ):
        return watched(attack, server, Path(folder) / "log", effort)


def watched(attack: Attack, server: ServerProcess, log: Path, effort: Effort) -> Course:
    quiet_s, attack_s = effort.pick(1, 4), effort.pick(2, 8)
    context = multiprocessing.get_context("spawn")
    round_trips, over = victim.RoundTrips(context), context.Event()
    beside = context.Process(target=victim.run, args=(server.url, round_trips, over), daemon=True)
    beside.start()
    assert answers_since(0, round_trips, _START_S), "the victim has no answer before the attack"
    time.sleep(_WARM_UP_S)
    # From before the attackers prepare themselves: some write what they ask for later.
    with Memory(server) as memory:
        control, attackers = ready(attack, server, context)
        quiet_began_s = time.monotonic()
        time.sleep(quiet_s)
        attack_began_s = time.monotonic()
        control.send(attack_s)
        message_count, cut_off_count = control.recv()
        attackers.join()
        has_recovered = answers_since(time.monotonic(), round_trips, _RECOVERY_S)
        time.sleep(_SETTLING_S)
        attack_ended_s = time.monotonic()
    quiet = [round_trips.between(quiet_began_s, attack_began_s, wholly=True)]
    attacked = round_trips.between(attack_began_s, attack_ended_s)
    if has_recovered:
        time.sleep(quiet_s)
        quiet.append(round_trips.between(attack_ended_s, time.monotonic(), wholly=True))
    after_bytes = server.resident_bytes()
    over.set()
    if not has_recovered:
        server.kill()
    beside.join()
    return Course(
        attack=attack,
        message_count=message_count,
        cut_off_count=cut_off_count,
        # The calmer of the two, so that what an attack leaves behind does not excuse it.
        quiet_s=min(quiet, key=p99),
        attacked_s=attacked,
        before_bytes=memory.before_bytes,
        most_bytes=memory.most_bytes,
        after_bytes=after_bytes,
        log_bytes=log.stat().st_size,
        has_recovered=has_recovered,
    )


def ready(attack: Attack, server: ServerProcess, context: SpawnContext) -> tuple[Connection, BaseProcess]:
    """The process of the attackers, and how it is told for how long."""
    control, far_end = context.Pipe()
    attackers = context.Process(target=carry_out, args=(attack.name, server.url, far_end), daemon=True)
    attackers.start()
    # So that it is noticed if they end early.
    far_end.close()
    assert control.poll(_START_S), f"the attackers with {attack.name} are not ready"
    control.recv()
    return control, attackers


def answers_since(since_s: float, round_trips: victim.RoundTrips, timeout_s: float) -> bool:
    """Whether a round trip that began after that moment is answered in time."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if round_trips.has_answer_since(since_s):
            return True
        time.sleep(0.01)
    return False


class Memory:
    """The most that the server takes, from here to the end of the block."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.before_bytes = self.most_bytes = server.resident_bytes()

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_MEMORY_EVERY_S):
            self.most_bytes = max(self.most_bytes, self._server.resident_bytes())
