"""``python -m zipeft.run`` is the command ``zipeft run``."""

import sys

from zipeft.commands.run import main

if __name__ == "__main__":
    sys.exit(main())
