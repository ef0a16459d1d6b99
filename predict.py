"""Predict crystals with a trained model: python predict.py MODEL CIFPATH [flags]. See --help and README.md."""

import sys

from cgcnn.cli import predict_command

if __name__ == "__main__":
    sys.exit(predict_command())
