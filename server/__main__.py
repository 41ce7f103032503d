"""`python -m hvae_codec.server`."""

import sys

from .command import main

sys.exit(main())
