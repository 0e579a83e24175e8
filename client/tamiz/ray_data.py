"""Ray Data: classify a data set that is too large for one client machine.

Ray distributes the images and Tamiz classifies them; this module does not import Ray. The extra ``ray`` installs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .arguments import check_text, check_type
from .bulk.results import PROVENANCE_COLUMNS, to_record
from .client import Client
from .errors import UsageError, suggest


class Classify:
    """Callable for ``Dataset.map_batches`` that adds the columns ``label``, ``score``, ``version`` and ``error``.

    For a multilabel model it also adds ``labels``: the labels at or above their thresholds, most probable first,
    joined by ``|``. All other columns are kept. A row with an unreadable image has empty labels, a NaN score and
    version 0; a row with a readable image has an empty ``error``. So each column has one type in every block. With
    ``provenance=True`` the columns of `tamiz.bulk.results.PROVENANCE_COLUMNS` are added too, empty for such a row.

    Args:
        column: name of the column with the images: the bytes of image files, uint8 arrays, or paths that every worker
            can read.
        client: keyword arguments of `tamiz.Client`.

    Example::

        images = ray.data.read_binary_files("s3://bucket/scans", include_paths=True)
        images.map_batches(
            Classify, fn_constructor_kwargs={"url": "grpc://a:8001,b:8001", "model": "clothing"},
            compute=ray.data.ActorPoolStrategy(size=4), num_cpus=0.5, batch_size=256,
        ).drop_columns(["bytes"]).write_parquet("s3://bucket/labels")
    """

    def __init__(self, *, column: str = "bytes", **client: Any) -> None:
        check_text("column", column, "the name of the column with the images")
        self.column = column
        self.client = Client(**client)
        self._provenance = bool(client.get("provenance", False))

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Classify one batch of rows.

        Args:
            batch: one array for each column, all of the same length.

        Returns:
            the columns of the batch and the new ones.

        Raises:
            UsageError: the batch is not a mapping, or has no column of this name.
            ServerError: the servers did not answer within ``timeout_s``. Ray then ends the job, unless its
                ``DataContext`` is set otherwise (``actor_task_retry_on_errors``, ``max_errored_blocks``).
        """
        check_type("batch", batch, Mapping, "one array for each column")
        if self.column not in batch:
            raise UsageError(f"unknown column: {self.column!r}{suggest(self.column, batch)}")
        outcomes = list(self.client.classify_many(iter(batch[self.column]), on_error="return"))
        if not outcomes:
            # No image was classified, so the client may not have read the spec, which decides the columns.
            self.client.refresh()
        multilabel = self.client.spec.task == "multilabel"
        records = [to_record("", outcome, multilabel=multilabel, provenance=self._provenance) for outcome in outcomes]

        def texts(name: str) -> npt.NDArray[np.str_]:
            return np.array([record[name] or "" for record in records], np.str_)

        columns = {
            **batch,
            "label": texts("label"),
            "score": np.array([record["score"] for record in records], np.float32),
            "version": np.array([record["version"] or 0 for record in records], np.int64),
            "error": texts("error"),
        }
        if self._provenance:
            columns |= {name: texts(name) for name in PROVENANCE_COLUMNS}
        if multilabel:
            joined = ["|".join(scored["label"] for scored in record.get("labels", ())) for record in records]
            columns["labels"] = np.array(joined, np.str_)
        return columns
