"""The paper's figures and Table 1 from evaluated sweeps (`hvae-codec report`).

`results` reads a sweep's folder, `metrics` names what was measured, `selection` finds baselines and
optima, `figures` and `figure1` draw, `table` compares with the paper's numbers, `differences` says
how a run departs from the paper's, `page` makes one HTML file of all that, `job` writes the files.
"""
