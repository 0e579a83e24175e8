"""``python -m tamiz``, which is what `torchrun -m tamiz train …` starts."""

from .cli import main

main()
