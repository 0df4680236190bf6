"""Do a transaction's own keys come in order, whenever they are added and asked for?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reactivedb.engine.added_keys import AddedKeys

KEYS = st.binary(max_size=2)
BOUNDS = st.tuples(KEYS, KEYS, st.none() | KEYS)


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "ask"]), KEYS, BOUNDS), max_size=40))
def test_added_keys_answer_like_a_sorted_list(
    steps: list[tuple[str, bytes, tuple[bytes, bytes, bytes | None]]],
) -> None:
    added = AddedKeys()
    model: dict[bytes, str] = {}
    for step, key, (low, high, beside) in steps:
        if step == "add":
            added.add(key, key.hex())
            model[key] = key.hex()
        elif step == "remove" and key in model:
            added.remove(key)
            del model[key]
        elif step == "ask":
            inside = [pair for pair in sorted(model.items()) if low <= pair[0] < high]
            assert added.count(low, max(low, high)) == len(inside)
            # A scan only goes on from a key that lies within its range.
            if beside is not None and not low <= beside < high:
                beside = None
            above = [pair for pair in inside if beside is None or pair[0] > beside]
            below = [pair for pair in inside if beside is None or pair[0] < beside]
            assert added.first(low, high, after=beside) == (above[0] if above else None)
            assert added.last(low, high, before=beside) == (below[-1] if below else None)
        added.check()
        assert len(added) == len(model)
