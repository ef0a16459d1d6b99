"""Run main.py for every combination of some flags: python grid_search.py DIR [--grid …]. See --help and README.md."""

import sys

from cgcnn.cli import sweep_command

if __name__ == "__main__":
    sys.exit(sweep_command())
