"""What does a test of an application need beside the application? A clock that it moves itself.

clock = FakeClock()
with app.open(clock=clock) as db:
    db.mutation(remind_in_an_hour)
    clock.advance(3600)
    db.run_until_idle()
"""

from .fake_clock import FakeClock

__all__ = ["FakeClock"]
