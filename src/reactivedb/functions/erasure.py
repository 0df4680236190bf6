"""How is a document erased for good: from the state, the past, recorded answers, jobs, files, and the disk?

`Erasure` deletes it as `ctx.db.delete` does, with what `rdb.OnDelete` says of others, and then takes out what
the database remembers of it. Every step is short and can be the last: erasing again goes on. What is found
and what is not: `docs/backups.md`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..engine import each_write, erase_answers, erase_versions, texts_of, versions_in_log, written_forms
from ..errors import RequestError, StorageError
from ..storage import DocumentWrite
from ..values import decode_id
from .db import cascade_of
from .erased_answer import ERASED_ANSWER
from .identity import ANONYMOUS
from .scheduler import finished, state_kind
from .system import CANCELED, FILE_TABLE_NUMBER, IN_PROGRESS, JOBS, PENDING, SYSTEM_PREFIX

if TYPE_CHECKING:
    from ..storage import FileStore
    from .runner import Run, Runner

_WAL_TRIES: Final = 100
_PAUSE_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Durable:
    """Go on once this timestamp is durable."""

    ts: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Go on after that time."""

    seconds: float


Step: TypeAlias = "Durable | Pause | None"


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What was erased, and what remains.

    `version_count` versions are gone from the past. `deleted_ids` names all that the deletion deleted, the
    document first: the others are deleted by `rdb.OnDelete`, their past is still there. `answer_count`
    recorded answers and `job_count` jobs that held the document are gone too. `running_job_ids` were running
    and were left alone: erase them when they have ended. At `tombstone_ts` the log says that the document is
    gone, and nothing else of it.
    """

    id: str
    version_count: int
    deleted_ids: tuple[str, ...]
    answer_count: int
    job_count: int
    running_job_ids: tuple[str, ...]
    tombstone_ts: int

    @property
    def backups(self) -> str:
        """What backups keep of it."""
        return (
            f"backups of timestamps before {self.tombstone_ts} keep `{self.id}` until the next "
            "`backup` into the same folder removes it there; delete copies that were made otherwise"
        )


class Erasure:
    """The erasing of one document."""

    def __init__(self, runner: Runner, files: FileStore, id: str) -> None:
        self._runner = runner
        self._engine = runner.engine
        self._files = files
        self._id = id
        self._table_number = decode_id(id)[0]
        self._running: list[str] = []

    def steps(self) -> Generator[Step, None, ErasureReport]:
        """Raises: RequestError `DeleteRestricted`, `JobRunning`; StorageError `RewriteNeeded`,
        `DatabaseBusy` and others.
        """
        engine = self._engine
        with engine.lock:
            engine.storage.check_keeps_no_old_bytes()
        deleted_ids, ts = self._delete()
        yield Durable(ts)
        versions = yield from versions_in_log(engine, self._id)
        contents = [text for text in versions.values() if text is not None]
        length_min = engine.limits.erased_text_length_min
        texts = set[str]().union(*(texts_of(text, length_min) for text in contents))
        forms = written_forms({self._id, *texts})
        answer_count = yield from erase_answers(engine, forms, ERASED_ANSWER)
        jobs = yield from self._jobs_with(forms)
        for job_id in jobs:
            yield from self._erase_job(job_id)
        # Last, since a later call learns from them what to look for.
        ts = erase_versions(engine, self._id, versions)
        yield Durable(ts)
        if self._table_number == FILE_TABLE_NUMBER:
            self._files.remove(self._id)
        yield from self._empty_wal()
        return ErasureReport(
            id=self._id,
            version_count=len(contents),
            deleted_ids=deleted_ids,
            answer_count=answer_count,
            job_count=len(jobs) - len(self._running),
            running_job_ids=tuple(self._running),
            tombstone_ts=ts,
        )

    def _delete(self) -> tuple[tuple[str, ...], int]:
        def body(run: Run) -> tuple[Any, Any]:
            document = run.transaction.get(self._id)
            if document is None:
                return (), None
            if document.table.name == JOBS and state_kind(document.fields) == IN_PROGRESS:
                raise RequestError(
                    f"the job `{self._id}` runs now - erase it when it has ended",
                    code="JobRunning",
                    id=self._id,
                )
            cascade_of(run.writer).delete(document)
            if self._table_number == FILE_TABLE_NUMBER:
                run.deleted_files.append(self._id)
            gone = [change.id for change in run.transaction.write_set().changes if change.new is None]
            return (self._id, *(id for id in gone if id != self._id)), None

        result = self._runner.transact(body, ANONYMOUS)
        return result.unwrap(), result.ts

    def _jobs_with(self, forms: Iterable[bytes]) -> Generator[Step, None, list[str]]:
        """The jobs that hold one of the texts, or held it; the product's own hold ids only."""
        number = self._engine.catalog.table(JOBS).number
        found: dict[str, None] = {}
        own: set[str] = set()
        system_name = f'"name":"{SYSTEM_PREFIX}'.encode()

        def look(ts: int, write: DocumentWrite) -> None:
            text = write.value
            if write.table_number != number or text is None or write.id == self._id:
                return
            if system_name in text:
                own.add(write.id)
            elif any(form in text for form in forms):
                found[write.id] = None

        yield from each_write(self._engine, look)
        return [id for id in found if id not in own]

    def _erase_job(self, id: str) -> Generator[Step]:
        """A pending job is cancelled; one that runs is left alone."""

        def cancel(run: Run) -> tuple[Any, Any]:
            job = run.transaction.get(id)
            kind = None if job is None else state_kind(job.fields)
            if job is not None and kind == PENDING:
                ended = finished(job.fields, {"kind": CANCELED}, run.transaction.now_ms)
                run.transaction.replace(job, ended)
            return kind == IN_PROGRESS, None

        def delete(run: Run) -> tuple[Any, Any]:
            job = run.transaction.get(id)
            if job is not None:
                run.transaction.delete(job)
            return None, None

        if self._runner.transact(cancel, ANONYMOUS).unwrap():
            self._running.append(id)
            return
        # In two commits, so that who follows the jobs sees that it was cancelled.
        result = self._runner.transact(delete, ANONYMOUS)
        result.unwrap()
        yield Durable(result.ts)
        versions = yield from versions_in_log(self._engine, id)
        erase_versions(self._engine, id, versions)

    def _empty_wal(self) -> Generator[Step]:
        engine = self._engine
        for _ in range(_WAL_TRIES):
            with engine.lock:
                engine.flush()
                if engine.storage.empty_wal():
                    return
            yield Pause(_PAUSE_S)
        path = engine.storage.path
        raise StorageError(
            f"`{self._id}` is erased, but another program reads `{path}`, and for it the bytes stay in "
            f"`{path}-wal` - end that program and erase it again",
            code="DatabaseBusy",
            path=str(path),
        )
