"""Triton kernels of the fused way; imported only where there is a Triton.

R rows are computed together: one token each, of one frame of many sequences or of a piece of one
prompt. All tensors are contiguous but where a stride is given.

With PDL (programmatic dependent launch, from Hopper on) a kernel is begun while the one before it
still runs: it loads weights, which nobody writes, and waits before it looks at anything else.
"""
