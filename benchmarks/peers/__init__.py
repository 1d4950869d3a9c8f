"""Other matting programs on the same photos and clip: `make bench-peers`."""
