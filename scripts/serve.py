#!/usr/bin/env python3
"""moor serve, from a checkout: python scripts/serve.py --help"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from moorage.cli.main import main  # noqa: E402 - the path comes first

sys.exit(main(["serve", *sys.argv[1:]]))
