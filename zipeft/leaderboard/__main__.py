"""``python -m zipeft.leaderboard``."""

import sys

from zipeft.commands.leaderboard import main

if __name__ == "__main__":
    sys.exit(main())
