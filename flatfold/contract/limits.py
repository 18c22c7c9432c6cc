"""Limits that both a setting and the code behind it name."""

MAX_PIXELS = 50_000_000  # of a picture, by its header
PIXEL_CEILING = 178_956_970  # where Pillow refuses a header, whatever the limit
