"""``python -m cli``: the same as ``cas``, where the script is not on the PATH."""

import sys

from cli.app import main

sys.exit(main())
