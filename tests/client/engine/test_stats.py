from __future__ import annotations

import threading

import pytest

from tamiz import Stats
from tamiz.engine.stats import Counter


def test_counts_from_many_threads_are_complete() -> None:
    counter = Counter()

    def count() -> None:
        for _ in range(500):
            counter.count("requests")
            counter.count("images", 2)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.stats == Stats(requests=2000, images=4000)


def test_amplification_is_requests_sent_per_request_needed() -> None:
    assert Stats().amplification == 1.0
    stats = Stats(requests=110, overloaded=6, unavailable=3, version_changed=1)
    assert stats.retries == 10
    assert stats.amplification == pytest.approx(1.1)
