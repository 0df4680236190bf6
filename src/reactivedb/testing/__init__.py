"""What does a test of an application need beside the application? A clock that it moves itself, and users.

clock = FakeClock()
with app.open(clock=clock) as db:
    db.mutation(remind_in_an_hour)
    clock.advance(3600)
    db.run_until_idle()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .fake_clock import FakeClock

if TYPE_CHECKING:
    from .identity_provider import LocalIdentityProvider

__all__ = ["FakeClock", "LocalIdentityProvider"]


def __getattr__(name: str) -> Any:
    """Hand on what needs the libraries for signatures without importing them before."""
    if name == "LocalIdentityProvider":
        from .identity_provider import LocalIdentityProvider

        return LocalIdentityProvider
    raise AttributeError(f"module `reactivedb.testing` has no attribute `{name}`")
