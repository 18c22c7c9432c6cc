"""`python -m flatfold` is the `flatfold` command."""

import sys

from flatfold.cli import main

sys.exit(main())
