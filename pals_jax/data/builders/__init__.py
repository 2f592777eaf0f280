"""TFDS builders. Import their modules inside functions only: they import tensorflow_datasets."""
