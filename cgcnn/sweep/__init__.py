"""Many runs → one summary: grid_search.py."""
