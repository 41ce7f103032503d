"""Measurements: PSNR, and, in its modules, what a card reports and what models learnt.

Modules that need torch are not imported here: an image's PSNR does not.
"""

from hvae_codec.evaluation.metrics.psnr import mean_psnr_db, psnr_db, psnr_each_db

__all__ = ["mean_psnr_db", "psnr_db", "psnr_each_db"]
