"""Narrower numbers: fp16 and int8 versions of an exported model, audited, measured and gated."""
