"""`python -m hvae_codec.server`."""

import sys

from hvae_codec.server.cli import main

sys.exit(main())
