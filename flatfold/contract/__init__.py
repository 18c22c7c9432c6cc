"""What training, export and service agree on: the card, the picture rule, errors and files.

This package imports numpy and Pillow at most, so that every side can afford it.
"""
