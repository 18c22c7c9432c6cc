"""Serve ONNX classifiers over HTTP with FastAPI and onnxruntime."""
