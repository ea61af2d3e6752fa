"""Pictures on the host: decoded, brought to a size, cropped, and what those of a data set are made of."""
