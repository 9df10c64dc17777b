"""The commands `scalepred` and `scalepred-fit`: flags in, one call."""
