"""The serving control plane with a thousand declared models, beside itself with a hundred.

    python -m bench serving

What a page costs is told in health checks of the same server, and a pass of the reconciler in passes over a tenth of
the models, so the ratios hold on any machine. The memory backend stands for one that answers at once.
"""
