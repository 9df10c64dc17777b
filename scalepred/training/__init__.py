"""From cells to rows: one lane, its sampling, the packs, and the ensemble of lanes."""
