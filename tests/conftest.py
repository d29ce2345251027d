"""For all tests."""

import torch

# The models of the tests are tiny: a second thread has nothing to do but to be waited for, and on a
# machine that others use as well made such tests ten times slower.
torch.set_num_threads(1)
