"""Search: how passages are embedded, disguised, found and measured. Knows documents by id; never imports `documents`."""

import os

# The matrices here are small: threads of BLAS would cost more than they save, and take the cores from the model.
# Effective because nothing below this package imports numpy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
