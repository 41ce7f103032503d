"""Measurements: PSNR (`quality`) and what a codec's card reports (`measure`)."""

from hvae_codec.evaluation.card_figures import measure_codec, rates_nats
from hvae_codec.evaluation.metrics.psnr import mean_psnr_db, psnr_db, psnr_each_db

__all__ = ["mean_psnr_db", "measure_codec", "psnr_db", "psnr_each_db", "rates_nats"]
