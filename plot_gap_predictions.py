"""Figures of predictions beside their labels: python plot_gap_predictions.py [RUN ...]. See --help and README.md."""

import sys

from cgcnn.plot_runs import plot_command

if __name__ == "__main__":
    sys.exit(plot_command())
