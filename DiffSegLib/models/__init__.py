"""Models: one safetensors file each, weights and a JSON card in its header; the shipped ones lie in this folder."""
