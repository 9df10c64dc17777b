"""The table between the two halves: rows on disk, and the surface read from them."""
