"""Cost of the method, and analysis of its attention."""
