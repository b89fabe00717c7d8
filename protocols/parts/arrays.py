"""What arrows of training carry: arrays, with the axes that the configuration's `sizes` name.

m is the number of samples in a message, which depends on the batch and is the step's to check.
"""

from __future__ import annotations

from protocols.language.figure import Integers, Reals, Words, sized

PIXELS = sized(Integers, "m n", below="x_max+1")
LABELS = sized(Integers, "m", below="k")  # of samples, or what a network says they are
Z1 = sized(Reals, "m h")  # and dZ1
W1 = sized(Reals, "F L")  # and dW1; rows and columns of W1: h and n, or the kernels of a convolution
ROUNDED_W1 = sized(Integers, "F L")
MASKED_W1 = sized(Words, "F L")
LAST_INPUT = sized(Reals, "m a")  # of the last layer, and its gradient
BETWEEN = sized(Reals, "H")  # the layers between the first and the last, one after the other
MASKED_BETWEEN = sized(Words, "H")
HEAD = sized(Reals, "k a+1")  # the last layer: weights, then biases
MASKED_HEAD = sized(Words, "k a+1")
