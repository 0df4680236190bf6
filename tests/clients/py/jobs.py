"""What does PyPI's client see of a job, whatever becomes of the process that runs it?"""

from __future__ import annotations

from convex import ConvexClient
from run import Stage


def follow(stage: Stage) -> None:
    """Say every state of the newest job; whoever has seen enough ends this process."""
    for newest in ConvexClient(stage.url).subscribe("work:newest", {}):
        stage.say("newest", newest=newest)
