"""Sources: examples by index, from arrays, files and folders, opened by their spelling."""
