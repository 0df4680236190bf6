"""Which functions run again and again, and when?

    crons = rdb.Crons()
    crons.interval("clean up", sessions.clean_up, hours=1)
    crons.daily("report", reports.send, hour_utc=9, args={"kind": "short"})
    app = rdb.App(sessions, reports, crons=crons)

A declaration; all times are UTC. What becomes of it in an open database: see `cron_jobs`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from ..errors import SchemaError, ValidationError
from ..protocol import identifier_of
from ..values import Int64, Value, encode
from .registration import Kind, RegisteredAction, RegisteredMutation
from .registry import FunctionDefinition, Registry

Job: TypeAlias = RegisteredMutation[..., Any] | RegisteredAction[..., Any]
DayOfWeek = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

_DAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")


# A clock that is set back by less has only been put right: no tick shall come twice.
_SET_BACK_MS_MAX: Final = 3600e3


def _was_ahead(last_ms: float, now_ms: float, interval_ms: float) -> bool:
    """The clock has been set back so far that waiting for it would leave out ticks."""
    return last_ms - now_ms > min(interval_ms / 2, _SET_BACK_MS_MAX)


@dataclass(frozen=True, slots=True)
class Every:
    """At the first deployment, and every so many seconds from then on."""

    seconds: int

    def first_ms(self, now_ms: float) -> float:
        return now_ms

    def next_ms(self, last_ms: float, now_ms: float) -> float:
        """The first tick after now and after the last one that lies whole intervals from it."""
        interval_ms = self.seconds * 1000
        late_ms = now_ms - last_ms
        if not _was_ahead(last_ms, now_ms, interval_ms):
            late_ms = max(0.0, late_ms)
        return last_ms + (late_ms // interval_ms + 1) * interval_ms

    def export(self) -> Value:
        return {"type": "interval", "seconds": Int64(self.seconds)}


@dataclass(frozen=True, slots=True)
class Expression:
    """At the minutes that five fields name: minute, hour, day of the month, month, day of the week."""

    text: str

    def first_ms(self, now_ms: float) -> float:
        """Raises: SchemaError `InvalidCron`, for what is no expression or names no time at all."""
        # Imported here: whoever has no such job does without it.
        from cronsim import CronSim, CronSimError

        try:
            if len(self.text.split()) != 5:
                raise CronSimError("not five fields")
            return next(CronSim(self.text, datetime.fromtimestamp(now_ms / 1000, UTC))).timestamp() * 1000
        except (CronSimError, StopIteration) as error:
            raise SchemaError(
                f"a cron expression has five fields that name a time, as `0 9 * * 1`, got `{self.text}`",
                code="InvalidCron",
            ) from error

    def next_ms(self, last_ms: float, now_ms: float) -> float:
        first_ms = self.first_ms(now_ms)
        if last_ms <= now_ms or _was_ahead(last_ms, now_ms, self.first_ms(first_ms) - first_ms):
            return first_ms
        return self.first_ms(last_ms)

    def export(self) -> Value:
        return {"type": "cron", "cronExpr": self.text}


@dataclass(frozen=True, slots=True)
class Cron:
    """One declared job."""

    name: str
    function: Job
    schedule: Every | Expression
    args: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class BoundCron:
    """A declared job whose function and arguments are known to fit."""

    cron: Cron
    definition: FunctionDefinition
    values: dict[str, Value]

    @property
    def spec(self) -> dict[str, Value]:
        """What it is, in Convex's words; a job whose specification differs is another one."""
        return {
            "udfPath": identifier_of(self.definition.path),
            "udfArgs": encode([self.values]),
            "cronSchedule": self.cron.schedule.export(),
        }


class Crons:
    """The jobs of an application that run by the clock. At most one run of each is under way at a time.

    Every method raises `SchemaError` for a name that is taken or a time that does not exist.
    """

    def __init__(self) -> None:
        self._crons: dict[str, Cron] = {}

    def interval(
        self,
        name: str,
        function: Job,
        /,
        *,
        seconds: int | None = None,
        minutes: int | None = None,
        hours: int | None = None,
        args: Mapping[str, object] | None = None,
    ) -> None:
        """Run when first deployed and then every so many seconds, minutes or hours (one of them)."""
        given = [
            (count, unit) for count, unit in ((seconds, 1), (minutes, 60), (hours, 3600)) if count is not None
        ]
        if len(given) != 1 or isinstance(given[0][0], bool) or given[0][0] < 1 or given[0][0] % 1:
            raise _invalid(
                name,
                "takes one of `seconds`, `minutes` and `hours`, a whole number from 1 on",
                f"`seconds={seconds}, minutes={minutes}, hours={hours}`",
            )
        self._add(Cron(name, function, Every(given[0][0] * given[0][1]), args or {}))

    def hourly(
        self,
        name: str,
        function: Job,
        /,
        *,
        minute_utc: int | None = None,
        args: Mapping[str, object] | None = None,
    ) -> None:
        """Run once an hour; without a minute, at one that the name decides."""
        self.cron(name, function, f"{_minute(name, minute_utc)} * * * *", args=args)

    def daily(
        self,
        name: str,
        function: Job,
        /,
        *,
        hour_utc: int,
        minute_utc: int | None = None,
        args: Mapping[str, object] | None = None,
    ) -> None:
        """Run once a day."""
        hour = _within(name, "hour_utc", hour_utc, 0, 23)
        self.cron(name, function, f"{_minute(name, minute_utc)} {hour} * * *", args=args)

    def weekly(
        self,
        name: str,
        function: Job,
        /,
        *,
        day_of_week: DayOfWeek,
        hour_utc: int,
        minute_utc: int | None = None,
        args: Mapping[str, object] | None = None,
    ) -> None:
        """Run once a week."""
        if day_of_week not in _DAYS:
            raise _invalid(name, "takes the name of a day as `day_of_week`", f"`{day_of_week!r}`")
        hour = _within(name, "hour_utc", hour_utc, 0, 23)
        day = _DAYS.index(day_of_week)
        self.cron(name, function, f"{_minute(name, minute_utc)} {hour} * * {day}", args=args)

    def monthly(
        self,
        name: str,
        function: Job,
        /,
        *,
        day: int,
        hour_utc: int,
        minute_utc: int | None = None,
        args: Mapping[str, object] | None = None,
    ) -> None:
        """Run once a month; a month without that day is left out."""
        hour = _within(name, "hour_utc", hour_utc, 0, 23)
        day = _within(name, "day", day, 1, 31)
        self.cron(name, function, f"{_minute(name, minute_utc)} {hour} {day} * *", args=args)

    def cron(
        self, name: str, function: Job, expression: str, /, *, args: Mapping[str, object] | None = None
    ) -> None:
        """Run at the minutes that an expression of five fields names, as `0 9 * * 1`."""
        schedule = Expression(expression)
        schedule.first_ms(0.0)
        self._add(Cron(name, function, schedule, args or {}))

    def _add(self, cron: Cron) -> None:
        if not cron.name or not cron.name.isascii() or not cron.name.isprintable():
            raise SchemaError(
                f"the name of a cron job is printable ASCII, got `{cron.name!r}`", code="InvalidCron"
            )
        if cron.name in self._crons:
            raise SchemaError(f"two cron jobs are called `{cron.name}` - rename one", code="DuplicateCron")
        self._crons[cron.name] = cron

    def __iter__(self) -> Iterator[Cron]:
        return iter(self._crons.values())

    def bind(self, registry: Registry) -> dict[str, BoundCron]:
        """Find the functions and check the arguments; by name.

        Raises:
            SchemaError: `InvalidCron`, `UnknownFunction`.
        """
        return {cron.name: _bind(cron, registry) for cron in self}


def _bind(cron: Cron, registry: Registry) -> BoundCron:
    definition = registry.of(cron.function)
    if definition.kind is Kind.QUERY:
        raise _invalid(cron.name, "runs a mutation or an action", f"the query `{definition.path}`")
    try:
        values = definition.args.dump(definition.args.bind((), dict(cron.args)))
    except ValidationError as error:
        raise SchemaError(
            f"the cron job `{cron.name}` has arguments that `{definition.path}` does not take: {error}",
            code="InvalidCron",
        ) from error
    return BoundCron(cron, definition, values)


def _invalid(name: str, expected: str, got: str) -> SchemaError:
    return SchemaError(f"the cron job `{name}` {expected}, got {got}", code="InvalidCron")


def _within(name: str, what: str, value: int, low: int, high: int) -> int:
    if isinstance(value, bool) or value not in range(low, high + 1):
        raise _invalid(name, f"takes a `{what}` from {low} to {high}", f"`{value!r}`")
    return value


def _minute(name: str, minute_utc: int | None) -> int:
    """Without one, the name decides, so that not all jobs of the world run at the full hour."""
    if minute_utc is None:
        return zlib.crc32(name.encode()) % 60
    return _within(name, "minute_utc", minute_utc, 0, 59)
