"""The run log's functions under the name that scripts know: see cgcnn/logs.py."""

from cgcnn.logs import log_train_metrics, log_val_metrics, setup_logger

__all__ = ["log_train_metrics", "log_val_metrics", "setup_logger"]
