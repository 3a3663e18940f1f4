"""The examples' own tests run without being installed."""

import sys
from pathlib import Path

sys.path[:0] = [str(project.parent) for project in sorted(Path(__file__).parent.glob("*/pyproject.toml"))]
