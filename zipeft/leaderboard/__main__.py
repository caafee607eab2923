"""``python -m zipeft.leaderboard``."""

import sys

from zipeft.leaderboard import main

if __name__ == "__main__":
    sys.exit(main())
