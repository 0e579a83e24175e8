from __future__ import annotations

from tamiz.engine.reservation import Reservation


def test_resources_are_given_back_when_the_last_holder_lets_go() -> None:
    given_back: list[str] = []
    with Reservation() as reservation:
        reservation.add(given_back.append, "slot")
        reservation.hold()
        reservation.hold()
        reservation.let_go()
    assert given_back == []
    reservation.let_go()
    assert given_back == ["slot"]


def test_resources_are_given_back_in_reverse_order() -> None:
    given_back: list[str] = []
    with Reservation() as reservation:
        reservation.add(given_back.append, "slot")
        reservation.add(given_back.append, "region")
    assert given_back == ["region", "slot"]


def test_resources_that_were_given_back_by_hand_are_not_given_back_again() -> None:
    given_back: list[str] = []
    with Reservation() as reservation:
        reservation.add(given_back.append, "slot")
        reservation.give_back()
    assert given_back == ["slot"]
