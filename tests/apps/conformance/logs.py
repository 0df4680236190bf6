"""Do lines printed by a function reach its caller?"""

import logging

import reactivedb as rdb

logger = logging.getLogger(__name__)


@rdb.query
def from_query(ctx: rdb.QueryCtx) -> None:
    print("seen in the query")


@rdb.mutation
def from_mutation(ctx: rdb.MutationCtx) -> None:
    print("seen in the mutation")
    logger.warning("careful in the mutation")


@rdb.action
async def from_action(ctx: rdb.ActionCtx) -> None:
    print("seen in the action")
