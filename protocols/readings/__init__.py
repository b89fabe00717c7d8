"""How keys, gradients, copies of weights and labels are read from a view; a protocol's `relations` put them
together.
"""
