"""Join work functions and band gaps to a data folder: python merge_work_band.py WORK.csv BAND.csv. See --help."""

import sys

from cgcnn.merge.command import merge_command

if __name__ == "__main__":
    sys.exit(merge_command())
