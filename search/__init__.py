"""Search: how passages are embedded, disguised, found and measured. Knows documents by id; never imports `documents`."""

import os

# The matrices here are small: threads of BLAS would cost more than they save, and take the cores from the model.
# Effective because nothing below this package imports numpy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# faiss's threads would wait for more work on all cores, for milliseconds after each question, which the database then lacks.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
