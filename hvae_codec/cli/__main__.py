"""`python -m hvae_codec.cli` is the command `hvae-codec`."""

import sys

from hvae_codec.cli import main

sys.exit(main())
