"""A run as one page: `report.html`, which needs no network and no other file."""
