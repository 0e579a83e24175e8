"""Classify a folder with several servers of the same model, and show how many images each of them answered.

python examples/several_servers.py grpc://a:8001,b:8001 data/digits/test

Stop one of the servers meanwhile: its requests go to another one, and no image is lost.
"""

import sys
from collections import Counter
from pathlib import Path

import tamiz


def classify_with(url: str, model: str, folder: Path) -> tuple[Counter[str], tamiz.Stats]:
    """Classify every PNG of a folder, and count the images that each server answered."""
    answered: Counter[str] = Counter()

    def count(event: tamiz.CallEvent) -> None:
        # Called for each request of the client, in the thread that sent it.
        if isinstance(event, tamiz.RequestAnswered) and event.images:
            answered[event.url] += event.images

    # Each request goes to the ready server with the fewest requests in flight.
    with tamiz.Client(url, model=model, timeout_s=30, on_event=count) as client:
        for prediction in client.classify_many(sorted(folder.rglob("*.png")), ordered=False):
            # During a rollout, servers may answer with different versions.
            print(prediction.position, prediction.label, prediction.version)
        for endpoint in client.endpoints:
            print(endpoint.url, "ready" if endpoint.ready else "not ready", f"version {endpoint.version}")
        return answered, client.stats


if __name__ == "__main__":
    images, stats = classify_with(sys.argv[1], "digits", Path(sys.argv[2]))
    for server, number in images.items():
        print(f"{server}: {number} images")
    print(f"{stats.unavailable} retries because a server was unavailable")
