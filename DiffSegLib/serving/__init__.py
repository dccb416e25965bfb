"""The worker process that a window keeps warm: its line of requests and events, and a file for each task."""
