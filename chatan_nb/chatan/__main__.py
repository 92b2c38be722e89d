"""``python -m chatan``: the shell."""

import sys

from chatan.cli import main

sys.exit(main())
