"""Said before it is trained: targets, sealed forecasts, gates, and the loop."""
