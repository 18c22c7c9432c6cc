"""Train foldable Conv-BN-ReLU classifiers with PyTorch."""
