"""Two tables of labels, as people keep them, → one data folder: merge_work_band.py."""
