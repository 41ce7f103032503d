"""`python -m hvae_codec.server`."""

import sys

from .cli import main

sys.exit(main())
