"""``python -m zipeft`` is the console script ``zipeft``."""

import sys

from zipeft.commands import main

if __name__ == "__main__":
    sys.exit(main())
