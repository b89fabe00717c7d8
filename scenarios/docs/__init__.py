"""Pages of the documentation that are made of what the code says of itself: `make docs`."""
