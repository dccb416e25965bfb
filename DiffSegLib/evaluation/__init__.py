"""From masks to numbers: metrics, tables over folders, summaries, and a report to look at."""
