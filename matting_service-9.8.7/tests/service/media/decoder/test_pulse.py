"""Signs of work from a decoder child, and the budgets that are renewed with them."""

import socket

from service.media.decoder.child import PULSE_S, Pulse
from service.media.wire.channel import Channel
from tests.sessions import Clock


def test_work_without_a_result_is_told_and_its_budget_renewed() -> None:
    ours, theirs = (Channel(end) for end in socket.socketpair())
    clock, renewals = Clock(), []
    pulse = Pulse(theirs, lambda: renewals.append(clock.now_s), clock)
    pulse.beat()
    assert renewals == [], "not for each packet"
    clock.now_s += PULSE_S
    pulse.beat()
    pulse.beat()
    assert len(renewals) == 1
    assert ours.receive(max_payload_bytes=0)[0] == {"kind": "progress"}
    clock.now_s += 0.9 * PULSE_S
    pulse.renew()  # a frame was sent
    clock.now_s += 0.9 * PULSE_S
    pulse.beat()
    assert len(renewals) == 2
    ours.close(), theirs.close()
