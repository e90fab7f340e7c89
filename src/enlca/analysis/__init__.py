"""What the method costs and what it does, apart from its scores."""
