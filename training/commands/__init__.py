"""Subcommands of `flatfold` that live here, one a module."""
