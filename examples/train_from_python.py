"""Train a model, evaluate it and publish it, through the public API instead of the command line.

python -m tamiz_train.digits data/digits
python examples/train_from_python.py
"""

from pathlib import Path

from tamiz_release import PublicationOptions, publish_run
from tamiz_server import Repository
from tamiz_train import Run, evaluate, load_classifier, load_recipe, load_run_data, predict, train


def train_and_publish(repository: Path, *overrides: str) -> tuple[Run, int]:
    """Train the recipe `digits`, and return the run and the number of the published version."""
    recipe = load_recipe("digits", overrides)
    run = train(recipe, on_progress=print)

    # The weights of the best epoch on the test images, as `tamiz evaluate` measures them.
    test = load_run_data(run, ("test",)).split("test")
    evaluation = evaluate(load_classifier(run), test, run.spec)
    print(evaluation.summary)
    print(evaluation.metrics)

    # Without a server; an unreadable image would be an InvalidImageError in the list.
    for prediction in predict(run, list(test.images[:3]), top_k=2):
        print(prediction)

    # Exports to ONNX, compares the graph with the trained network, and adds it as the next version. To change a
    # running server too, give it `control=tamiz_server.Control(url, key)`.
    published = publish_run(run, Repository(repository), options=PublicationOptions(promote=True))
    return run, published.version


if __name__ == "__main__":
    run, version = train_and_publish(Path("model_repository"))
    print(f"{run.path} is version {version}; `tamiz serve` serves it")
