#!/usr/bin/env python3
"""The verbs with the platform fixed to kubernetes: python scripts/platform/kubernetes.py start --help"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from moorage.cli.main import main_on_platform  # noqa: E402 - the path comes first

sys.exit(main_on_platform("kubernetes", sys.argv[1:]))
