"""How often is an action that runs as a job tried again, and after how long?

    @rdb.internal_action(retry=rdb.Retry(max_attempts=5))
    async def send_mail(ctx: rdb.ActionCtx, address: str) -> None: ...

Without it an action runs at most once. With it, one that raises, or that ends with its process, is tried
again: it runs at least once if it succeeds at all, so what it does outside should bear being repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SchemaError


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Up to `max_attempts` runs, the waiting time before each growing by `factor` up to `delay_s_max`.

    Raises:
        SchemaError: `InvalidRetry`.
    """

    max_attempts: int
    delay_s: float = 1.0
    factor: float = 2.0
    delay_s_max: float = 300.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.delay_s < 0 or self.factor < 1 or self.delay_s_max < 0:
            raise SchemaError(
                "`Retry` takes `max_attempts` from 1 on, delays from 0 on and a `factor` from 1 on, "
                f"got `{self}`",
                code="InvalidRetry",
            )

    def delay_s_after(self, attempt: int) -> float:
        """How long to wait after that attempt has failed, counted from 1."""
        try:
            delay_s = self.delay_s * self.factor ** (attempt - 1)
        except OverflowError:
            return self.delay_s_max
        return min(delay_s, self.delay_s_max)
