"""DiffSeg's engine: trains, and segments 3D medical images by few-step recycling diffusion.

Importing this package is cheap and never imports torch; each room imports what it needs.
"""

__version__ = "0.1.0"
