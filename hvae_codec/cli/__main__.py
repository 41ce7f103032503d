"""`python -m hvae_codec.cli` is the command `hvae-codec`."""

import sys

from hvae_codec.cli import main
from hvae_codec.utils.cores import limit_threads

limit_threads()
sys.exit(main())
