"""Batches on the host: the order of the examples, their reading and stacking, and data that lives on the device."""
