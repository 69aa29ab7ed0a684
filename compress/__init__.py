"""Makes the model: training, merging, export. The only package that imports torch."""
