"""The maths of Gaussian diffusion over masks: schedules, forward process, reverse steps, training strategies.

Masks live in x-space: one channel per class (background included), 2 m - 1 for the one-hot mask m, so in [-1, 1].
"""
