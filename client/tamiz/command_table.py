"""The table of all commands of ``tamiz``: where each one is, and the extras that it needs."""

from __future__ import annotations

from .lazy_commands import LazyCommand, LazyGroup

COMMANDS: tuple[LazyCommand | LazyGroup, ...] = (
    LazyCommand(
        "demo",
        "tamiz_bench.demo:demo",
        extra="train,server,bench,cpu",
        summary="Train, publish, serve and classify handwritten digits.",
    ),
    LazyCommand("train", "tamiz_train.commands.train:train", extra="train,cpu", summary="Train a model from a recipe."),
    LazyGroup(
        name="recipe",
        help="Write a recipe for your own images, and look at recipes.",
        rich_markup_mode=None,
        commands=[
            LazyCommand(
                "new",
                "tamiz_train.commands.recipe:new",
                extra="train,cpu",
                summary="Look at labelled images, and write a recipe for them.",
            ),
            LazyCommand(
                "list",
                "tamiz_train.commands.recipe:list_recipes",
                extra="train,cpu",
                summary="List the shipped recipes.",
            ),
            LazyCommand("show", "tamiz_train.commands.recipe:show", extra="train,cpu", summary="Print a recipe."),
            LazyCommand(
                "schema",
                "tamiz_train.commands.recipe:schema",
                extra="train,cpu",
                summary="Print the JSON schema of recipes, for editors.",
            ),
        ],
    ),
    LazyGroup(
        name="data",
        help="Check and show the images of a recipe before training.",
        rich_markup_mode=None,
        commands=[
            LazyCommand(
                "check",
                "tamiz_train.commands.data:check",
                extra="train,cpu",
                summary="Report the problems in a recipe's data.",
            ),
            LazyCommand(
                "show",
                "tamiz_train.commands.data:show",
                extra="train,cpu",
                summary="Write a contact sheet of a recipe's training images.",
            ),
            LazyCommand(
                "split",
                "tamiz_train.commands.data:split",
                extra="train,cpu",
                summary="Write the splits of a recipe's images as a manifest.",
            ),
        ],
    ),
    LazyCommand(
        "evaluate",
        "tamiz_release.commands.evaluate:evaluate",
        extra="release,cpu",
        summary="Evaluate a run, an ONNX file or a served model.",
    ),
    LazyCommand(
        "compare",
        "tamiz_release.commands.compare:compare",
        extra="release,cpu",
        summary="Say which of two models is better on the same images.",
    ),
    LazyCommand(
        "explain",
        "tamiz_train.commands.explain:explain",
        extra="train,cpu",
        summary="Show which parts of an image led to a label (Grad-CAM).",
    ),
    LazyCommand(
        "predict",
        "tamiz_train.commands.predict:predict",
        extra="train,cpu",
        summary="Classify images with a run, without a server.",
    ),
    LazyCommand(
        "export",
        "tamiz_release.commands.export:export",
        extra="train,cpu",
        summary="Export a run to ONNX and compare its outputs with the trained model's.",
    ),
    LazyCommand(
        "publish",
        "tamiz_release.commands.publish:publish",
        extra="release,cpu",
        summary="Publish a run or any ONNX classifier as a new version.",
    ),
    LazyCommand(
        "release",
        "tamiz_release.commands.release:release",
        extra="train,server,cpu",
        summary="Release a run in one go: export, gate, publish, canary, watch, promote.",
    ),
    LazyGroup(
        name="models",
        default="list",
        help="List models and versions, and which are live (`list`, which need not be named), or verify their files.",
        short_help="List models and versions, and which are live; verify their files.",
        rich_markup_mode=None,
        commands=[
            LazyCommand(
                "list",
                "tamiz_server.commands.models:models",
                extra="server",
                summary="List models and versions, and which are live.",
            ),
            LazyCommand(
                "verify",
                "tamiz_server.commands.verify:verify",
                extra="server",
                summary="Hash the files of the repository again, and name those that changed.",
            ),
        ],
    ),
    LazyCommand(
        "promote", "tamiz_release.commands.promote:promote", extra="server", summary="Make a version the live one."
    ),
    LazyCommand(
        "rollback",
        "tamiz_release.commands.rollback:rollback",
        extra="server",
        summary="End a canary or shadow, or undo the last promotion.",
    ),
    LazyCommand(
        "history",
        "tamiz_server.commands.history:history",
        extra="server",
        summary="List who promoted which version, when and why.",
    ),
    LazyGroup(
        name="versions",
        help="Remove versions that nothing needs any more.",
        rich_markup_mode=None,
        commands=[
            LazyCommand(
                "prune",
                "tamiz_server.commands.versions:prune",
                extra="server",
                summary="Remove the oldest versions of a model.",
            )
        ],
    ),
    LazyCommand(
        "serve",
        "tamiz_server.commands.serve:serve",
        extra="server,cpu",
        summary="Serve the model repository with the embedded Triton.",
    ),
    LazyCommand(
        "gateway",
        "tamiz_gateway.commands.gateway:gateway",
        extra="gateway,server,cpu",
        summary="Serve REST in front of Triton: the published classifier's contract.",
    ),
    LazyCommand("classify", "tamiz.bulk.command:classify", summary="Classify files and folders with a served model."),
    LazyCommand(
        "replay",
        "tamiz_release.commands.replay:replay",
        extra="server,cpu",
        summary="Classify images of a bulk job again, and compare to the bit.",
    ),
    LazyGroup(
        name="bench",
        help="Measure throughput and latency beside the limit of the machine.",
        rich_markup_mode=None,
        commands=[
            LazyCommand(
                "served",
                "tamiz_bench.commands.served:served",
                extra="bench,server,cpu",
                summary="Compare a served model with the in-process limit.",
            ),
            LazyCommand(
                "client",
                "tamiz_bench.commands.client:client",
                extra="bench,server,cpu",
                summary="Compare the client with one written from tritonclient's documentation.",
            ),
            LazyCommand(
                "preprocessing",
                "tamiz_bench.commands.preprocessing:preprocessing",
                extra="bench",
                summary="Measure the time to prepare an image.",
            ),
            LazyCommand(
                "precisions",
                "tamiz_bench.commands.precisions:precisions",
                extra="bench,train,cpu",
                summary="Compare FP32, INT8 and FP16 graphs of a network.",
            ),
            LazyCommand(
                "training",
                "tamiz_bench.commands.training:training",
                extra="bench,train,cpu",
                summary="Compare training with a plain PyTorch loop and with the limit.",
            ),
        ],
    ),
)
