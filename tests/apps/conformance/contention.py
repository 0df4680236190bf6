"""Do transactions that look at more than they write stay serializable?"""

from typing import Annotated

import reactivedb as rdb


class Doctor(rdb.Document, table="doctors"):
    ward: str
    name: str
    on_call: bool

    by_ward = rdb.Index("ward")


class Claim(rdb.Document, table="claims"):
    name: str
    owner: str

    by_name = rdb.Index("name")


class Party(rdb.Document, table="parties"):
    name: str


class Seat(rdb.Document, table="seats"):
    party_id: Annotated[rdb.Id[Party], rdb.OnDelete("cascade")]
    number: int
    owner: str

    by_number = rdb.Index("party_id", "number", unique=True)


@rdb.mutation
def open_ward(ctx: rdb.MutationCtx, ward: str, names: list[str]) -> None:
    for name in names:
        ctx.db.insert(Doctor(ward=ward, name=name, on_call=True))


@rdb.mutation
def go_off_call(ctx: rdb.MutationCtx, ward: str, name: str) -> bool:
    """Only while somebody else stays: reads every row of the ward, writes one."""
    doctors = ctx.db.query(Doctor.by_ward.eq(ward)).collect()
    staying = [doctor for doctor in doctors if doctor.on_call and doctor.name != name]
    if not staying:
        return False
    leaving = next(doctor for doctor in doctors if doctor.name == name)
    ctx.db.patch(leaving.id, on_call=False)
    return True


@rdb.query
def on_call(ctx: rdb.QueryCtx, ward: str) -> list[str]:
    return [doctor.name for doctor in ctx.db.query(Doctor.by_ward.eq(ward)).collect() if doctor.on_call]


@rdb.mutation
def claim(ctx: rdb.MutationCtx, name: str, owner: str) -> bool:
    """True for the first owner only: the range it checks was empty when it looked."""
    if ctx.db.query(Claim.by_name.eq(name)).first() is not None:
        return False
    ctx.db.insert(Claim(name=name, owner=owner))
    return True


@rdb.query
def owners(ctx: rdb.QueryCtx, name: str) -> list[str]:
    return [found.owner for found in ctx.db.query(Claim.by_name.eq(name)).collect()]


@rdb.mutation
def invite(ctx: rdb.MutationCtx, name: str) -> rdb.Id[Party]:
    return ctx.db.insert(Party(name=name))


@rdb.mutation
def sit(ctx: rdb.MutationCtx, party_id: rdb.Id[Party], number: int, owner: str) -> rdb.Id[Seat]:
    """Looks at nothing: the index says who came first."""
    return ctx.db.insert(Seat(party_id=party_id, number=number, owner=owner))


@rdb.mutation
def call_off(ctx: rdb.MutationCtx, party_id: rdb.Id[Party]) -> None:
    ctx.db.delete(party_id)


@rdb.query
def seated(ctx: rdb.QueryCtx, party_id: rdb.Id[Party]) -> list[str]:
    return [seat.owner for seat in ctx.db.query(Seat.by_number.eq(party_id))]
