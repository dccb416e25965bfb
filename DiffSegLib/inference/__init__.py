"""Inference: windows over a volume, the sampler in each, several samples, uncertainty, the mask on the native grid."""
