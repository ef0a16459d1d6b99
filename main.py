"""Train, validate and test a crystal graph network: python main.py DIR [flags]. See --help and README.md."""

import sys

from cgcnn.cli import train_command

if __name__ == "__main__":
    sys.exit(train_command())
