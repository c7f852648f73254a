"""Pictures: curves of schedules and levels, grids of images."""
