"""flatfold: train a small image classifier, fold its batch norms into ONNX, serve it."""

__version__ = "0.1.0"
