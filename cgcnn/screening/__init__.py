"""Any number of structure files → a table of predictions, and how sure they are: predict.py."""
