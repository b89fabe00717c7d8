"""`keyhole view`: a run's transcript as pages that this machine alone can open."""
