"""`python -m hvae_codec.server`."""

import sys

from hvae_codec.utils.cores import limit_threads

from .cli import main

limit_threads()
sys.exit(main())
