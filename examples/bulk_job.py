"""Classify every image of a folder into a CSV file, in memory that does not grow with the number of images.

python examples/bulk_job.py data/digits/test labels.csv

`tamiz classify` does this too, and continues after an interruption. Write your own when rows must go elsewhere.
"""

import csv
import sys
from pathlib import Path

import tamiz

URL = "grpc://localhost:8001"
MODEL = "digits"


def classify_folder(folder: Path, out: Path, url: str = URL, model: str = MODEL) -> tamiz.Stats:
    """Write one row per image, and return what the client did."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    # A long job outlives a restart of the server: each request may take a minute, retries included.
    with tamiz.Client(url, model=model, timeout_s=60) as client, out.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "score", "version", "error"])
        # An unreadable image is returned in place of its prediction, so that one bad file does not end the job. With
        # ordered=False, a slow request holds nobody up; `position` says which image an outcome belongs to.
        for outcome in client.classify_many(paths, on_error="return", ordered=False):
            path = paths[outcome.position]
            if isinstance(outcome, tamiz.InvalidImageError):
                rows.writerow([path, "", "", "", outcome])
            else:
                rows.writerow([path, outcome.label, f"{outcome.score:.4f}", outcome.version, ""])
        return client.stats


if __name__ == "__main__":
    stats = classify_folder(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"{stats.images:,} images in {stats.calls:,} requests, {stats.retries} retries")
