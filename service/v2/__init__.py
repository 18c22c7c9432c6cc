"""The Open Inference Protocol version 2 over HTTP: one file a noun, `router` for all of it."""
