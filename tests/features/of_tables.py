"""Pictures drawn from tables, for checks of estimators; imports scikit-learn."""

import numpy as np

from hvae_codec.features import HVAEFeatures


class OfTables(HVAEFeatures):
    """The transformer on pictures drawn from tables: each cell gives some rows their grey level."""

    def transform(self, X):  # noqa: N803
        table = np.asarray(X, dtype=np.float64)
        levels = (np.abs(table) * 23.0 % 256).astype(np.uint8)
        return super().transform(np.resize(levels.T, (1024, len(levels))).T)
