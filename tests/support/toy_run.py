"""``python -m zipeft.run`` with the toys registered, as a script: what tests start, kill and launch several times over.

python tests/support/toy_run.py --backbone toy --task toy ...
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a script it finds its own folder alone

import torch

from support.toys import registered
from zipeft.commands.run import main

if __name__ == "__main__":
    torch.set_num_threads(1)
    with registered():
        sys.exit(main())
