"""Many items in messages that a server takes: none lost, none twice, none too large."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvae_codec.client import RemoteLimits, ServiceError
from hvae_codec.client.chunking import Budget, Packer, Weight
from hvae_codec.errors import AlphaError, ImageError

weights = st.builds(Weight, *[st.integers(0, 40)] * 3)
slots = st.lists(st.tuples(weights, st.booleans()), max_size=60)
budgets = st.builds(Budget, st.integers(1, 9), *[st.integers(1, 60)] * 3)


def packed(budget, weighed):
    packer = Packer(budget)
    parts = [part for slot, weight in weighed for part in packer.add(slot, weight)]
    return [*parts, *packer.rest()]


@given(budget=budgets, drawn=slots)
def test_every_item_goes_once_in_its_place_within_the_budget(budget, drawn):
    weighed = [
        (ImageError(str(index)), Weight()) if bad else (index, weight)
        for index, (weight, bad) in enumerate(drawn)
    ]
    parts = packed(budget, weighed)
    assert [slot for part in parts for slot in part.slots] == [slot for slot, _ in weighed]
    place = 0
    for part in parts:
        assert part.start == place
        place += len(part.slots)
        assert [part.slots[at] for at in part.places] == part.items
        total = Weight(*map(sum, zip(*(drawn[i][0] for i in part.items), strict=True)))
        fits = budget.holds(max(len(part.items), 1), total)
        assert part.oversize != fits
        assert fits or len(part.items) == 1
        assert len(part.slots) <= budget.items


@given(budget=budgets, drawn=st.lists(weights, max_size=60))
def test_no_message_is_smaller_than_it_has_to_be(budget, drawn):
    parts = packed(budget, list(enumerate(drawn)))
    for part, following in itertools.pairwise(parts):
        both = [*part.items, following.items[0]]
        total = Weight(*map(sum, zip(*(drawn[i] for i in both), strict=True)))
        assert not budget.holds(len(both), total)


@pytest.mark.parametrize("message_bytes", [100, 5_000, 4 * 2**20])
def test_a_budget_leaves_room_for_what_goes_around_the_items(message_bytes):
    limits = RemoteLimits(2**20, items=7, pixels=99)
    budget = Budget.within(limits, message_bytes, 256)
    assert 0 < budget.request_bytes < min(message_bytes, 2**20)
    assert (budget.items, budget.pixels) == (7, 99)


def test_a_call_of_too_many_items_becomes_several(ask, small, pictures, hashes):
    assert ask(small.address, "encode", pictures, model="m") == hashes
    assert small.of("Encode") == [5, 5, 5, 5, 3]


def test_a_call_of_too_many_pixels_becomes_several(ask, small, pictures, hashes):
    small.limits["pixels"] = 3 * 16
    assert ask(small.address, "encode", pictures[:7], model="m") == hashes[:7]
    assert small.of("Encode") == [3, 3, 1]


def test_one_item_needs_no_limits(ask, small, pictures, hashes):
    assert ask(small.address, "encode", pictures[:1], model="m") == hashes[:1]
    assert small.messages == [("Encode", 1)]


@pytest.mark.parametrize("method", ["encode", "encode_stream"])
def test_a_server_that_states_no_limits_is_sent_halves_of_what_it_refuses(
    ask, small, pictures, hashes, method
):
    small.silent = True
    assert ask(small.address, method, pictures, model="m") == hashes
    # Of 23: 11 (5, 6 (3, 3)) and 12 (6 (3, 3), 6 (3, 3)).
    assert sorted(items for items in small.of("Encode") if items <= 5) == [3] * 6 + [5]


def test_an_item_that_no_call_may_carry_fails_alone(ask, small, pictures, hashes):
    small.limits["items"] = 0  # of what it enforces; it states what it had
    small.silent = True
    found = ask(small.address, "encode", pictures[:2], model="m", on_error="return")
    assert [type(error) for error in found] == [ServiceError] * 2
    assert str(found[1]).startswith("images[1]: ")
    with pytest.raises(ServiceError, match=r"^images\[0\]: "):
        ask(small.address, "encode", pictures[:2], model="m")


@pytest.mark.parametrize("stated", [2**20, 2**26])
@pytest.mark.parametrize("method", ["encode", "encode_stream"])
def test_messages_larger_than_the_server_reads(ask, small, pictures, hashes, method, stated):
    """One file of 2 MB among small pictures: gRPC itself refuses it, which ends a stream."""
    small.limits["message_bytes"] = stated
    mixed = [*pictures[:9], b"\x89PNG" + bytes(2 * 2**20), *pictures[9:]]
    large = {"max_message_bytes": 2**27}
    found = ask(small.address, method, mixed, model="m", on_error="return", settings=large)
    assert [*found[:9], *found[10:]] == hashes
    assert isinstance(found[9], ServiceError)
    said = "a request of 2,097,171 bytes; the server's --max-message-bytes is 1,048,576"
    assert str(found[9]).endswith(said)
    assert set(small.answered) == set(hashes)


@pytest.mark.parametrize("method", ["encode", "encode_stream"])
def test_items_fail_alone_by_their_places_over_all_messages(ask, small, pictures, hashes, method):
    small.bad = {pictures[13].tobytes()}
    mixed = [*pictures[:8], "/nowhere/at/all.png", *pictures[8:]]
    found = ask(small.address, method, mixed, model="m", on_error="return")
    assert [found[index] for index in (*range(8), *range(9, 14), *range(15, 24))] == [
        *hashes[:13],
        *hashes[14:],
    ]
    assert isinstance(found[14], AlphaError)
    assert str(found[14]) == "images[14]: told to fail"
    assert isinstance(found[8], ImageError)
    assert str(found[8]) == "images[8]: cannot read /nowhere/at/all.png: No such file or directory"


def test_the_first_failed_item_is_raised(ask, small, pictures):
    small.bad = {pictures[n].tobytes() for n in (12, 14, 22)}
    with pytest.raises(AlphaError, match=r"^images\[12\]: told to fail$"):
        ask(small.address, "encode", pictures, model="m")
    assert small.of("Encode") == [5, 5, 5]


def test_what_cannot_be_sent_is_raised_before_anything_is(ask, small, pictures):
    with pytest.raises(ImageError, match=r"^images\[23\]: cannot read"):
        ask(small.address, "encode", [*pictures, "/nowhere/at/all.png"], model="m")
    assert not small.messages


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quality": 1, "target_bytes": 9}, "quality and target_bytes exclude"),
        ({"target_psnr": 30.0, "target_bytes": 9}, "target_bytes and target_psnr exclude"),
        ({"target_bytes": 0}, "at least 1"),
        ({"max_bytes": 0}, "at least 1"),
        ({"on_error": "ignore"}, "'raise' or 'return'"),
    ],
)
def test_wrong_arguments_are_refused_here(ask, small, pictures, options, words):
    with pytest.raises(ValueError, match=words):
        ask(small.address, "encode", pictures, model="m", **options)
    assert not small.messages
