#!/usr/bin/env python3
"""moor models, from a checkout: python scripts/models.py --help"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from moorage.cli.main import main  # noqa: E402 - the path comes first

sys.exit(main(["models", *sys.argv[1:]]))
