"""enlca inside other programs."""
